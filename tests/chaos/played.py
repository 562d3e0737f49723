"""What the machine plays with: one database, a clock, and its own idea of every job."""

import asyncio
from collections import Counter, defaultdict
from contextlib import ExitStack
from datetime import datetime, timedelta

import msgspec
from hypothesis.stateful import (
    RuleBasedStateMachine,
)

from shared.chat.usage import Usage
from shared.config.conduct import QueueConfig
from shared.config.model import Budget, Config, TenantConfig
from shared.errors import CallerError
from shared.gateway.failure import failure_of
from shared.identity import Principal
from shared.jobs.books import JobBooks
from shared.jobs.commits import Commits
from shared.jobs.holds import Windows, job_holds
from shared.jobs.lease import Interrupt
from shared.jobs.room import Room
from shared.jobs.run import Desk, Ran, Reply, _Run
from shared.jobs.state import FINAL
from shared.jobs.submit import Order, submit
from shared.jobs.terms import Wishes
from shared.jobs.verdict import Later
from shared.ledger.books import Charge, Opening, Outcome
from shared.ledger.budgets import BudgetTable
from shared.store.batches import FINAL as BATCH_FINAL
from shared.store.batches import BatchRow
from shared.store.claims import claim
from shared.store.engine import open_store
from shared.store.idempotency import bind_job
from shared.store.records import JobRow, NewJob
from tests.chaos.look import looking_at
from tests.contract.batches.rig import Rig
from tests.contract.store.makers import StoppedClock
from tests.fakes.objects import MemoryObjects

TENANTS = ("acme", "other", "third")
WORKERS = ("w1", "w2", "w3")
CLASSES = ("interactive", "default", "batch")
LEASE_S = 10.0
LOCK_S = 30.0
PAUSE_S = 3.0
CAP = 3
"""Jobs one tenant may have running."""
COST, ESTIMATE = 700, 1_000
LIMIT = 40 * COST
"""Of each tenant; some runs of the machine spend it."""
ROUTE = "POST /v1/jobs"
CONFIG = Config(
    tenants=tuple(
        TenantConfig(id=name, budgets=(Budget(window="month", limit_usd=f"0.{LIMIT:09d}"),))
        for name in TENANTS
    )
)
HOOK = "https://hooks.example/sluiceway"


class Job(msgspec.Struct, kw_only=True):
    """What must stand in a job's row."""

    id: str
    tenant_id: str
    priority: str
    deadline: datetime
    status: str
    not_before: datetime | None = None
    token: int = 0
    spent: int = 0
    deferrals: int = 0
    recoveries: int = 0
    owner: str | None = None
    lease_until: datetime | None = None

    @property
    def leased(self) -> bool:
        return self.status in {"running", "cancelling"}

    @property
    def waits(self) -> bool:
        return self.status in {"queued", "scheduled"}

    def let_go(self, status: str, now: datetime) -> None:
        self.owner = None
        self.lease_until = now if self.status == "cancelling" else None
        self.status = "cancelling" if self.status == "cancelling" else status

    def end(self, status: str) -> None:
        self.status, self.owner, self.lease_until = status, None, None


class Name(msgspec.Struct, kw_only=True):
    """What an Idempotency-Key stands for."""

    locked_until: datetime
    job_id: str | None = None


class Played(RuleBasedStateMachine):
    """Plays on the empty database at `url`."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.opened = ExitStack()
        self.rows = self.opened.enter_context(looking_at(url))
        self.clock = StoppedClock()
        self.store = self.do(open_store(url, clock=self.clock))
        self.rig = Rig(self.store, MemoryObjects(), self.clock)
        commits = Commits(self.store)
        self.desk = Desk(
            store=self.store,
            objects=self.rig.desk.objects,
            bell=self.rig.bell,
            call=None,
            holds=job_holds(self.store, CONFIG, self.clock, commits),
            describe=failure_of,
            clock=self.clock,
            ids=self.rig.desk.ids,
            draw=lambda: 0.5,
            commits=commits,
        )
        self.room = Room(QueueConfig(), self.clock)
        self.jobs: dict[str, Job] = {}
        self.runs: list[_Run] = []
        self.calls: defaultdict[tuple[str, int], list[Opening]] = defaultdict(list)
        self.lines: set[str] = set()
        self.steps = 0
        self.names: dict[tuple[str, str], Name] = {}
        self.batches: dict[str, BatchRow] = {}
        self.ended: dict[str, dict[str, object]] = {}

    def do(self, task):
        return self.runner.run(task)

    def accept(self, tenant, priority, life_s, later_s, name) -> str:
        now = self.clock.now()
        wishes = Wishes(
            priority=priority,
            deadline=(now + timedelta(seconds=life_s)).isoformat(),
            not_before=None if later_s is None else (now + timedelta(seconds=later_s)).isoformat(),
            webhook_url=HOOK,
        )
        order = Order(
            endpoint="/v1/chat/completions",
            body=b'{"model":"m"}',
            request_id=self.desk.ids("req"),
            wishes=wishes,
        )

        async def also(tx, job: NewJob) -> None:
            if name is not None:
                named, owner = name
                assert await bind_job(tx, named, owner=owner, job_id=job.id, until=job.deadline)

        row = self.do(
            submit(
                self.store,
                self.desk.bell,
                self.desk.ids,
                clock=self.clock,
                principal=Principal(tenant_id=tenant, key_id="key_1", key_name="ci"),
                order=order,
                room=self.room,
                also=also,
            )
        )
        self.learn(row)
        return row.id

    def learn(self, row: JobRow) -> None:
        self.jobs[row.id] = Job(
            id=row.id,
            tenant_id=row.tenant_id,
            priority=row.priority,
            deadline=row.deadline,
            not_before=row.not_before,
            status=row.status,
        )

    def claim(self, worker: str, limit: int, first: str) -> None:
        """Exactly as many jobs as are due and their tenants' caps allow, none of them twice."""
        now = self.clock.now()
        for job in self.jobs.values():
            if job.status == "scheduled" and job.not_before is not None and job.not_before <= now:
                job.status = "queued"
        running = Counter(job.tenant_id for job in self.jobs.values() if job.leased)
        waiting = Counter(job.tenant_id for job in self.jobs.values() if job.status == "queued")
        due = sum(min(count, CAP - running[name]) for name, count in waiting.items())
        classes = (first, *(name for name in CLASSES if name != first))

        rows = self.do(
            self.in_tx(
                claim,
                owner=worker,
                lease_s=LEASE_S,
                limit=limit,
                classes=classes,
                most_running=CAP,
            )
        )

        assert min(limit, due) == len(rows) == len({row.id for row in rows})
        for row in rows:
            job = self.jobs[row.id]
            assert "queued" == job.status
            job.status, job.owner, job.token = "running", worker, job.token + 1
            job.lease_until = now + timedelta(seconds=LEASE_S)
            books = JobBooks(self.store, row, self.desk.commits)
            self.runs.append(_Run(row, self.desk, Interrupt(), books))
        counts = Counter(job.tenant_id for job in self.jobs.values() if job.leased)
        assert all(count <= CAP for count in counts.values()), "law 8"

    def holds(self, run: _Run) -> bool:
        job = self.jobs[run.job.id]
        return job.leased and job.token == run.job.lease_token

    def windows(self, run: _Run) -> Windows:
        principal = Principal(tenant_id=run.job.tenant_id, key_id="key_1", key_name="ci")
        return {rule.ref_at(self.clock.now()): rule for rule in BudgetTable(CONFIG).of(principal)}

    def opening(self, run: _Run) -> Opening:
        return Opening(
            attempt_id=self.desk.ids("att"),
            request_id=run.job.request_id,
            job_id=run.job.id,
            batch_id=run.job.batch_id,
            number=1,
            tenant_id=run.job.tenant_id,
            key_id=run.job.key_id,
            endpoint=run.job.endpoint,
            route="m",
            provider="p",
            model="pm",
            started_at=self.clock.now(),
            estimate_nanousd=ESTIMATE,
            price_source="list",
            budgets=tuple(self.windows(run)),
            grant=f"job:{run.job.id}",
        )

    def charge(self, opening: Opening, outcome: Outcome) -> Charge:
        cost = COST if outcome is Outcome.SUCCEEDED else 0
        return Charge(
            opening=opening,
            outcome=outcome,
            usage=Usage(),
            cost_nanousd=cost,
            ended_at=self.clock.now(),
        )

    async def ending(self, run: _Run, how: str) -> Ran:
        match how:
            case "succeed":
                body = msgspec.json.encode({"run": run.job.lease_token})
                return await run.finish("succeeded", reply=Reply(body=body, usage=Usage()))
            case "fail":
                return await run.finish("failed", error=CallerError("no"))
            case "spend" | "defer":
                moment = self.clock.now() + timedelta(seconds=PAUSE_S)
                later = Later(not_before=moment, spent=how == "spend", waits_for="overloaded")
                return await run.reschedule(later, CallerError("later"))
            case _:
                return await run.release()

    def beats(self, worker: str, id_: str, token: int) -> bool:
        job = self.jobs[id_]
        return job.leased and (job.token, job.owner) == (token, worker)

    def read_lines(self, batch: BatchRow) -> None:
        """Learn of new lines, and of those that a cancelled batch has ended."""
        row = self.do(self.rig.row(batch))
        for line in self.do(self.rig.jobs(batch)):
            job = self.jobs.get(line.id)
            if job is None:
                self.learn(line)
                self.lines.add(line.id)
            elif job.status != line.status:
                steps = {("queued", "cancelled"), ("scheduled", "cancelled")}
                assert row.status in {"cancelling", "cancelled"}
                assert (job.status, line.status) in {*steps, ("running", "cancelling")}
                job.status = line.status

    async def in_tx(self, write, *args, **how):
        async with self.store.write() as tx:
            return await write(tx, *args, **how)

    def is_over(self) -> bool:
        rows = (self.do(self.rig.row(batch)) for batch in self.batches.values())
        return all(job.status in FINAL for job in self.jobs.values()) and all(
            row.status in BATCH_FINAL for row in rows
        )
