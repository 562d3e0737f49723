"""Real processes in bad weather: killed, held up, their Redis wiped, their database restarted."""

import json
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

import httpx
import msgspec

from tests.chaos.laws import FINAL
from tests.fakes.receiver import Receiver
from tests.fakes.stack import STOP_S, Child, Stack, eventually
from tests.fakes.upstream import Answer, Recorded, Upstream, sse, status
from tests.fakes.vendor import echo, slowly
from tests.services import PostgresServer, RedisServer
from workers.supervisor import release_leases

LEASE_S = 2.0
TENANTS = tuple(f"tenant-{number}" for number in range(5))
SECRET = "whsec_c3Rvcm1zLXN0b3Jtcy1zdG9ybXMtc3Rvcm1z"
CHAT = "/v1/chat/completions"
LIMIT_USD = 1_000
PATIENCE_S = 60.0
"""Longer than an Idempotency-Key stays locked when the process that held it was killed."""
ROLES = ("worker", "worker", "scheduler", "api")

UNANSWERED = "SELECT key FROM idempotency_key WHERE status IS NULL AND job_id IS NULL"
DELIVERING = "SELECT id FROM delivery WHERE lease_owner = :owner"

T = TypeVar("T")

CONFIG = """
version: 1
providers:
  moody: {{kind: openai_compatible, base_url: "{base_url}", api_key: sk-upstream}}
defaults:
  price: {{input_per_mtok: 1, output_per_mtok: 2}}
  retry: {{max_attempts: 1}}
  breaker: {{failures: 100000, window_s: 0.1, open_s: 0.01, limited_s: 0, parked_s: 0}}
  timeouts: {{connect_s: 2, first_token_s: 3, idle_s: 3, attempt_s: 5, total_s: 10}}
routes:
  - {{model: moody, targets: [{{provider: moody, model: moody-1}}]}}
tenants:
{tenants}
queue: {{lease_s: 2, heartbeat_s: 0.5, poll_s: 0.2}}
webhooks: {{allow_networks: [127.0.0.0/8]}}
logging: {{requests: false}}
"""
TENANT = """  - id: {id}
    webhook_secret: "{secret}"
    keys: [{{name: ci, key: {key}}}]
    budgets: [{{window: month, limit_usd: {limit_usd}, action: reject}}]"""


class Weather(msgspec.Struct, frozen=True, kw_only=True):
    """How much is asked, and what goes wrong meanwhile; drawn from `seed`."""

    seed: int
    jobs: int = 60
    batch_lines: int = 15
    kills: int = 3
    stalls: int = 1
    flushes: int = 1
    redis_restarts: int = 1
    postgres_restarts: int = 1
    pause_s: float = 0.25
    """Between the submissions of one tenant."""
    patient: bool = True
    """Whether nobody is killed who holds what is free again only after half a minute."""
    calm_within_s: float = 60.0
    """How long it may take until all is over, once nothing goes wrong any more."""


def key_of(tenant: str) -> str:
    return f"sk-{tenant}-0123456789abcdef"


def config(base_url: str) -> str:
    """Return the config of the storm's processes."""
    tenants = "\n".join(
        TENANT.format(id=name, secret=SECRET, key=key_of(name), limit_usd=LIMIT_USD)
        for name in TENANTS
    )
    return CONFIG.format(base_url=base_url, tenants=tenants)


def moody(draw: random.Random, request: Recorded) -> Answer:
    """Fail one call in ten, one way or another; echo the others, sooner or later."""
    if draw.random() >= 0.1:
        answer = slowly(draw.uniform(0.02, 0.4), request)
        return msgspec.structs.replace(answer, gap_s=0.03)
    faults: tuple[Callable[[], Answer], ...] = (
        lambda: status(500),
        lambda: status(503),
        lambda: status(429, retry_after="1"),
        lambda: Answer(before_head="reset"),
        lambda: msgspec.structs.replace(echo(request), end="reset"),
        lambda: sse(()) if request.json.get("stream") else Answer(pieces=(b"{",)),
    )
    return draw.choice(faults)()


class Callers(threading.Thread):
    """A tenant's client: asks for each job under a name, and again until it is accepted."""

    def __init__(self, storm: "Storm", tenant: str, numbers: range) -> None:
        super().__init__(name=tenant, daemon=True)
        self.accepted: dict[str, str] = {}
        self.failure: BaseException | None = None
        self._storm = storm
        self._tenant = tenant
        self._numbers = numbers

    def run(self) -> None:
        try:
            for number in self._numbers:
                name = f"{self._tenant}/{number}"
                self.accepted[name] = self._storm.insists(
                    partial(self._submit, name, streamed=number % 8 == 7), what=name
                )
                time.sleep(self._storm.weather.pause_s)
        except BaseException as error:  # noqa: BLE001 (the test's own thread tells of it)
            self.failure = error

    def _submit(self, name: str, *, streamed: bool) -> str | None:
        message = {"role": "user", "content": f"this is {name}"}
        body = {"model": "moody", "messages": [message], "stream": streamed}
        headers = {
            "prefer": "respond-async",
            "idempotency-key": name,
            "x-request-id": name,
            "x-sluiceway-webhook": self._storm.receiver.url,
        }
        answer = self._storm.post(self._tenant, CHAT, json=body, headers=headers)
        if answer is None:
            return None
        assert 202 == answer.status_code, answer.text
        id_: str = answer.json()["id"]
        return id_


class Storm:
    """Processes on a database and a Redis, callers, and the weather; `blow` lets it loose."""

    def __init__(
        self,
        stack: Stack,
        weather: Weather,
        *,
        redis: RedisServer,
        postgres: PostgresServer | None,
        receiver: Receiver,
    ) -> None:
        self.stack = stack
        self.weather = weather
        self.receiver = receiver
        self.draw = random.Random(weather.seed)
        self.done: Counter[str] = Counter()
        self._redis = redis
        self._postgres = postgres
        self._stalled: dict[str, Child] = {}
        self.living: list[tuple[str, Child]] = []
        for role in ROLES:
            self._start(role)
        self._wait_until_started()
        self.api = next(child for role, child in self.living if role == "api")
        self.stack.wait_for_api(self.api)
        share = weather.jobs // len(TENANTS)
        self.callers = [Callers(self, name, range(share)) for name in TENANTS]

    def blow(self) -> None:
        """Let callers ask while one thing after the other goes wrong; return when all is over."""
        batch = self._submit_batch() if self.weather.batch_lines else None
        for caller in self.callers:
            caller.start()
        wrongs = self._wrongs()
        for number, (name, wrong) in enumerate(wrongs, 1):
            due = self.weather.jobs * number // (len(wrongs) + 1)
            with suppress(AssertionError):  # a slow machine waits for no progress
                eventually(lambda due=due: self.over() >= due, within_s=5, every_s=0.05)
            wrong()
            self.done[name] += 1
        self._calm_down()
        try:
            eventually(
                lambda: self.is_over(batch), within_s=self.weather.calm_within_s, every_s=0.2
            )
        except AssertionError as error:
            error.add_note(
                str(Counter(row["status"] for row in self.stack.rows("SELECT status FROM job")))
            )
            raise

    def over(self) -> int:
        """Return how many jobs have ended."""
        with suppress(Exception):  # a restarting database
            rows = self.stack.rows(f"SELECT COUNT(*) AS n FROM job WHERE status IN {FINAL}")
            return int(str(rows[0]["n"]))
        return 0

    # Callers

    def insists(self, ask: Callable[[], T | None], *, what: str) -> T:
        """Return the first answer; who gets none asks again."""
        return eventually(ask, within_s=PATIENCE_S, every_s=0.1, what=what)  # type: ignore[return-value]

    def post(self, tenant: str, path: str, **how) -> httpx.Response | None:
        """Return the answer of the API that is there now, None for one that says: ask again."""
        headers = {"authorization": f"Bearer {key_of(tenant)}", **how.pop("headers", {})}
        try:
            answer = httpx.post(
                f"{self.api.url}{path}", headers=headers, timeout=5, trust_env=False, **how
            )
        except httpx.TransportError:
            return None
        return None if answer.status_code in {409, 429, 503} else answer

    def _submit_batch(self) -> str:
        lines = [
            {"custom_id": f"line-{number}", "method": "POST", "url": CHAT, "body": _call(number)}
            for number in range(self.weather.batch_lines)
        ]
        content = "\n".join(map(json.dumps, lines))
        tenant = TENANTS[0]
        file = self.insists(
            lambda: self.post(
                tenant, "/v1/files", files={"file": content}, data={"purpose": "batch"}
            ),
            what="file",
        )
        order = {
            "input_file_id": file.json()["id"], "endpoint": CHAT, "completion_window": "24h",
        }  # fmt: skip
        batch = self.insists(lambda: self.post(tenant, "/v1/batches", json=order), what="batch")
        id_: str = batch.json()["id"]
        return id_

    # Weather

    def _wrongs(self) -> list[tuple[str, Callable[[], None]]]:
        weather = self.weather
        wrongs: list[tuple[str, Callable[[], None]]] = []
        for index in range(weather.kills):
            role = ("worker", "api", "worker", "scheduler")[index % 4]
            wrongs.append((f"kill {role}", partial(self._kill, role)))
        wrongs += [("stall", self._stall)] * weather.stalls
        wrongs += [("flush", self._redis.flush)] * weather.flushes
        wrongs += [("redis restart", self._redis.restart)] * weather.redis_restarts
        if self._postgres is not None:
            restart = self._postgres.restart
            wrongs += [("postgres restart", restart)] * weather.postgres_restarts
        self.draw.shuffle(wrongs)
        return wrongs

    def _kill(self, role: str) -> None:
        """Kill -9, and start another one.

        As a supervisor does, leases of the dead end at once every other time.
        """
        victim = self._one_that_runs(role)
        supervised = self.draw.choice((True, False))
        if self.weather.patient:
            supervised = self._kill_without_long_locks(role, victim) or supervised
        victim.kill()
        self.living.remove((role, victim))
        if role == "worker" and supervised:
            release_leases(self.stack.database_url, victim.owner)
        child = self._start(role)
        if role == "api":
            self.stack.wait_for_port(child)
            self.api = child

    def _kill_without_long_locks(self, role: str, victim: Child) -> bool:
        """Hold the victim up where its death leaves no lock that only runs out after 30 s.

        For a worker it is enough that its leases are ended: returns whether they must be.
        """

        def held_up() -> bool:
            victim.signal(signal.SIGSTOP)
            if role != "api" or not self.stack.rows(UNANSWERED):
                return True
            victim.signal(signal.SIGCONT)
            return False

        eventually(held_up, every_s=0.05, what="a moment without an unanswered name")
        return bool(self.stack.rows(DELIVERING, owner=victim.owner))

    def _wait_until_started(self) -> None:
        for role, child in self.living:
            child.wait_for_event("api.serving" if role == "api" else f"{role}.started")

    def _stall(self) -> None:
        """Hold a worker up for longer than its leases; it goes on as if nothing had been."""
        victim = self._one_that_runs("worker")
        victim.signal(signal.SIGSTOP)
        self._stalled[victim.owner] = victim
        threading.Timer(1.5 * LEASE_S, self._resume, [victim]).start()

    def _one_that_runs(self, role: str) -> Child:
        def running() -> list[Child]:
            named = [child for kind, child in self.living if kind == role]
            return [child for child in named if child.owner not in self._stalled]

        return self.draw.choice(eventually(running, what=f"a {role} that is not held up"))

    def _resume(self, victim: Child) -> None:
        victim.signal(signal.SIGCONT)
        self._stalled.pop(victim.owner, None)

    def _start(self, role: str) -> Child:
        arguments = {"api": ["--stop-delay=0"], "worker": ["--slots=8"], "scheduler": []}[role]
        child = self.stack.start(role, *arguments)
        self.living.append((role, child))
        return child

    def _calm_down(self) -> None:
        eventually(lambda: not self._stalled, what="stalled workers")
        for caller in self.callers:
            caller.join(PATIENCE_S + self.weather.jobs * self.weather.pause_s)
            assert not caller.is_alive()
            if caller.failure is not None:
                raise caller.failure

    # The end

    def is_over(self, batch: str | None) -> bool:
        """Return whether every job is over and told of, and the batch has ended."""
        ended = [
            row["id"] for row in self.stack.rows("SELECT id FROM batch WHERE status = 'completed'")
        ]
        return (
            not self.stack.rows(f"SELECT id FROM job WHERE status NOT IN {FINAL}")
            and not self.stack.rows("SELECT id FROM delivery WHERE status <> 'succeeded'")
            and (batch is None or batch in ended)
        )

    def stop(self) -> list[int]:
        """Ask all to stop; return their exit codes."""
        self._wait_until_started()
        for _, child in self.living:
            child.signal(signal.SIGTERM)
        return [child.process.wait(STOP_S) for _, child in self.living]


def _call(number: int) -> dict[str, object]:
    return {"model": "moody", "messages": [{"role": "user", "content": f"this is line {number}"}]}


def told(receiver: Receiver) -> dict[str, set[str]]:
    """Return the webhook ids under which each job's end was told."""
    found: dict[str, set[str]] = {}
    for one in list(receiver.webhooks):
        assert one.verified
        found.setdefault(one.json["data"]["id"], set()).add(one.webhook_id)
    return found


def seen(vendor: Upstream) -> int:
    """Return how many calls the provider has seen."""
    return len(vendor.asked("moody"))
