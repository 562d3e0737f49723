"""A machine that does to jobs whatever may be done to them, and knows what must come of it.

It plays callers, workers, caretakers and a broker that drops, doubles and reorders rings; workers
die, and go on when they are long given up. Beside the database it keeps its own idea of every job,
and compares after every step.
"""

from datetime import timedelta

from hypothesis import strategies as st
from hypothesis.stateful import (
    initialize,
    invariant,
    precondition,
    rule,
)
from typing_extensions import override

from shared.errors import BudgetExceeded, CallerError
from shared.jobs.batch.submit import cancel_batch
from shared.jobs.cancel import cancel
from shared.jobs.expire import expire_waiting
from shared.jobs.lease import LeaseLost
from shared.jobs.rescue import rescue_jobs
from shared.jobs.run import Ran, _Run
from shared.jobs.state import FINAL, MOST_RECOVERIES
from shared.ledger.books import Outcome
from shared.ledger.verify import verify
from shared.store.claims import release_owner, renew
from shared.store.idempotency import Named, take_name
from tests.chaos.laws import broken, passed
from tests.chaos.played import (
    CLASSES,
    CONFIG,
    ESTIMATE,
    LEASE_S,
    LIMIT,
    LOCK_S,
    PAUSE_S,
    ROUTE,
    TENANTS,
    WORKERS,
    Job,
    Name,
    Played,
)
from tests.contract.batches.rig import LEASE_S as BATCH_LEASE_S
from tests.contract.batches.rig import good

tenants, workers = st.sampled_from(TENANTS), st.sampled_from(WORKERS)


LOOK_EVERY = 3


class Machine(Played):
    """What may be done, and what must hold."""

    @override
    def teardown(self) -> None:
        try:
            self.let_all_end()
        finally:
            self.do(self.store.close())
            self.runner.close()
            self.opened.close()

    # Callers

    @rule(
        tenant=tenants,
        priority=st.sampled_from(CLASSES),
        life_s=st.sampled_from((15, 3600)),
        later_s=st.sampled_from((None, 8)),
        key=st.sampled_from((None, None, "k1", "k2")),
        dies=st.booleans(),
    )
    def submit(self, tenant, priority, life_s, later_s, key, dies) -> None:
        """One call, maybe under a name; the process that answers it may die before it can."""
        if key is None:
            self.accept(tenant, priority, life_s, later_s, None)
            return
        named, owner = Named(tenant_id=tenant, route=ROUTE, key=key), self.desk.ids("own")
        now, known = self.clock.now(), self.names.get((tenant, key))
        earlier = self.do(self.in_tx(take_name, named, fingerprint="f", owner=owner, lock_s=LOCK_S))
        if known is not None and (known.job_id is not None or known.locked_until > now):
            assert earlier is not None
            assert known.job_id == earlier.job_id, "a name stands for one job"
            return
        assert earlier is None
        name = self.names[tenant, key] = Name(locked_until=now + timedelta(seconds=LOCK_S))
        if not dies:
            name.job_id = self.accept(tenant, priority, life_s, later_s, (named, owner))

    @precondition(lambda self: self.jobs.keys() > self.lines)
    @rule(data=st.data())
    def cancel(self, data) -> None:
        """At any time; what its caller is told stays true (law 7)."""
        ids = [id_ for id_ in self.jobs if id_ not in self.lines]
        job = self.jobs[data.draw(st.sampled_from(ids))]
        after = self.do(
            cancel(
                self.store, self.desk.bell, self.desk.ids, tenant_id=job.tenant_id, job_id=job.id
            )
        )
        if job.waits:
            job.end("cancelled")
        elif job.status == "running":
            job.status = "cancelling"
        assert job.status == after.status

    # Workers

    @precondition(lambda self: any(job.waits for job in self.jobs.values()))
    @rule(worker=workers, limit=st.integers(1, 6), first=st.sampled_from(CLASSES))
    def poll(self, worker, limit, first) -> None:
        """A worker looks by itself."""
        self.claim(worker, limit, first)

    @precondition(lambda self: self.rig.bell.rung)
    @rule(worker=workers, data=st.data())
    def hear(self, worker, data) -> None:
        """The broker passes on what it likes of what was rung, how often and in which order."""
        rung = [one for one in self.rig.bell.rung if one.startswith("jobs:")]
        self.rig.bell.rung.clear()
        if rung:
            for topic in data.draw(st.lists(st.sampled_from(rung), max_size=3)):
                self.claim(worker, 2, topic.removeprefix("jobs:"))

    @precondition(lambda self: self.runs)
    @rule(data=st.data())
    def call(self, data) -> None:
        """A run holds money and calls a provider; one that lost its job may do neither."""
        run = data.draw(st.sampled_from(self.runs))
        held = self.holds(run)
        opening = self.opening(run)
        try:
            windows = self.windows(run)
            if self.do(self.desk.holds(run.job)._try(windows, ESTIMATE)) is not None:
                return  # others hold the rest
            self.do(run.books.open(opening))
        except LeaseLost:
            assert not held
            self.runs.remove(run)
        except BudgetExceeded:
            assert held
        else:
            assert held
            self.calls[run.job.id, run.job.lease_token].append(opening)

    @precondition(lambda self: self.runs)
    @rule(data=st.data())
    def succeed(self, data) -> None:
        """The last of a run's calls answers."""
        self.end(data, "succeed")

    @precondition(lambda self: self.runs)
    @rule(data=st.data(), how=st.sampled_from(("fail", "spend", "defer", "defer", "release")))
    def give_up(self, data, how) -> None:
        """A run fails for good or for now, or is given back."""
        self.end(data, how)

    def end(self, data, how: str) -> None:
        """End a run, maybe long after it was given up: then nothing of it counts."""
        run = data.draw(st.sampled_from(self.runs))
        self.runs.remove(run)
        calls = self.calls.pop((run.job.id, run.job.lease_token), [])
        if how == "succeed" and not calls:
            how = "defer"
        for number, opening in enumerate(calls, 1):
            good = how == "succeed" and number == len(calls)
            run.books.close(self.charge(opening, Outcome.SUCCEEDED if good else Outcome.FAILED))
        held, job = self.holds(run), self.jobs[run.job.id]

        ran = self.do(self.ending(run, how))

        assert held == (ran is not Ran.LEASE_LOST)
        if held:
            self.ended_as(job, how)

    def ended_as(self, job: Job, how: str) -> None:
        now = self.clock.now()
        match how:
            case "succeed":
                job.end("succeeded")
            case "fail":
                job.end("failed")
            case "spend" | "defer" if job.status == "cancelling":
                job.end("cancelled")
            case "spend" | "defer":
                job.not_before = now + timedelta(seconds=PAUSE_S)
                job.spent += how == "spend"
                job.deferrals += how == "defer"  # law 9
                job.let_go("scheduled", now)
            case _:
                job.let_go("queued", now)

    @precondition(lambda self: self.runs)
    @rule(data=st.data())
    def beat(self, data) -> None:
        """A heartbeat says of each lease whether it is still ours."""
        worker = data.draw(st.sampled_from(sorted({run.job.lease_owner for run in self.runs})))
        mine = [run for run in self.runs if run.job.lease_owner == worker]
        held = {run.job.id: run.job.lease_token for run in mine}
        kept = {id_ for id_, token in held.items() if self.beats(worker, id_, token)}

        renewed = self.do(self.in_tx(renew, owner=worker, held=held, lease_s=LEASE_S))

        cancelling = {id_ for id_ in kept if self.jobs[id_].status == "cancelling"}
        assert (kept, held.keys() - kept, cancelling) == (
            renewed.kept,
            renewed.lost,
            renewed.cancelling,
        )
        for id_ in kept:
            self.jobs[id_].lease_until = self.clock.now() + timedelta(seconds=LEASE_S)

    @precondition(lambda self: any(job.leased for job in self.jobs.values()))
    @rule(worker=workers)
    def die(self, worker) -> None:
        """A supervisor ends the leases of a worker that died, or only seemed to."""
        self.do(self.in_tx(release_owner, worker))
        for job in self.jobs.values():
            if job.leased and job.owner == worker:
                job.lease_until = self.clock.now()

    # Caretakers and time

    @rule(length_s=st.sampled_from((1, 4, 11, 40)))
    def wait(self, length_s) -> None:
        self.clock.forward(length_s)

    @precondition(lambda self: any(job.leased for job in self.jobs.values()))
    @rule(late_s=st.sampled_from((0, 0, LEASE_S + 1)))
    def rescue(self, late_s) -> None:
        """Leases that ended: the jobs wait again, unless they have cost too many workers."""
        self.clock.forward(late_s)
        now = self.clock.now()
        self.do(rescue_jobs(self.store, self.desk.bell, self.desk.ids))
        for job in self.jobs.values():
            if not job.leased or job.lease_until is None or job.lease_until > now:
                continue
            if job.status == "cancelling":
                job.end("cancelled")
            elif job.deadline <= now:
                job.end("expired")
            elif job.recoveries >= MOST_RECOVERIES:
                job.end("failed")
            else:
                job.end("queued")
                job.recoveries, job.token = job.recoveries + 1, job.token + 1

    @precondition(lambda self: any(job.waits for job in self.jobs.values()))
    @rule()
    def expire(self) -> None:
        """Deadlines that passed while their jobs waited."""
        self.do(expire_waiting(self.store, self.desk.bell, self.desk.ids))
        for job in self.jobs.values():
            if job.waits and job.deadline <= self.clock.now():
                job.end("expired")

    # Batches

    @initialize(lines=st.sampled_from((0, 0, 2, 7)), first=tenants)
    def begin(self, lines, first) -> None:
        """Some work is there from the start."""
        for name in (first, first, *TENANTS):
            self.accept(name, "default", 3600, None, None)
        if lines:
            batch = self.do(self.rig.submit(good(lines), completion_window="1h"))
            self.batches[batch.id] = batch

    @precondition(lambda self: self.batches)
    @rule()
    def bring_on(self) -> None:
        """Whoever cares for batches makes lines into jobs, or ends them."""
        self.clock.forward(1)
        self.do(self.rig.look())
        for batch in self.batches.values():
            self.read_lines(batch)

    @precondition(lambda self: self.batches)
    @rule()
    def cancel_batch(self) -> None:
        for batch in self.batches.values():
            if self.do(self.rig.row(batch)).status in {"validating", "in_progress"}:
                self.do(
                    cancel_batch(self.store, self.rig.bell, tenant_id="acme", batch_id=batch.id)
                )

    # What must hold

    @invariant()
    def rows_are_as_expected(self) -> None:
        found = {
            row["id"]: row
            for row in self.rows("SELECT * FROM job LEFT JOIN job_content ON job_id = id")
        }
        expected = {
            job.id: (job.status, job.token, job.spent, job.deferrals, job.recoveries)
            for job in self.jobs.values()
        }
        columns = ("status", "lease_token", "attempts_spent", "deferrals", "recoveries")
        assert expected == {
            id_: tuple(row[column] for column in columns) for id_, row in found.items()
        }
        moved = {"job_id": None, "body": None, "response_body": None}
        for id_, row in found.items():
            if row["status"] in FINAL:
                # What lines hold moves into the files of their batch.
                end = {**row, **moved} if id_ in self.lines else row
                assert self.ended.setdefault(id_, end) == end, "law 2: a result never changes"

    @invariant()
    def laws_hold_now_and_then(self) -> None:
        """They are many questions; what breaks one mostly goes on breaking it."""
        self.steps += 1
        if self.steps % LOOK_EVERY == 0:
            self.laws_hold()

    def laws_hold(self) -> None:
        assert [] == broken(self.rows) + passed(self.rows, LIMIT)

    def let_all_end(self) -> None:
        """Everybody who has a run is gone; a fresh worker and the caretakers end all, unrung."""
        self.runs.clear()
        for _ in range(60):
            self.bring_on()
            self.rescue(0)
            self.expire()
            self.claim("fresh", 6, "default")
            for run in list(self.runs):
                self.run_to_its_end(run)
            self.rows_are_as_expected()
            if self.is_over():
                break
            self.clock.forward(BATCH_LEASE_S)
        self.laws_hold()
        left = [one for one in broken(self.rows, over=True) if "delivered" not in one]
        assert [] == left, "law 1"
        faults = self.do(verify(self.store, CONFIG)).faults
        assert () == faults, list(map(str, faults))
        for batch in self.batches.values():
            self.do(self.rig.results(batch))  # law 10: each line once

    def run_to_its_end(self, run: _Run) -> None:
        self.runs.remove(run)
        job = self.jobs[run.job.id]
        if job.deadline <= self.clock.now():
            self.do(run.finish("expired", error=CallerError("late")))
            job.end("expired")
            return
        opening = self.opening(run)
        try:
            assert self.do(self.desk.holds(run.job)._try(self.windows(run), ESTIMATE)) is None
        except BudgetExceeded as error:
            self.do(run.finish("failed", error=error))
            job.end("failed")
            return
        self.do(run.books.open(opening))
        run.books.close(self.charge(opening, Outcome.SUCCEEDED))
        self.do(self.ending(run, "succeed"))
        job.end("succeeded")
