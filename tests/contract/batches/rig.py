"""Batches without processes: a test says who works, when, and what goes wrong."""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from itertools import count

import msgspec

from shared.errors import ModelNotFound, StoreUnavailable
from shared.identity import Principal
from shared.jobs.batch.advance import advance
from shared.jobs.batch.check import Asked
from shared.jobs.batch.held import BatchDesk, BatchLost, Caller, Held
from shared.jobs.batch.submit import BatchOrder, cancel_batch, submit_batch
from shared.store.batch_lines import LineCounts, line_counts
from shared.store.batches import FINAL, BatchRow, claim_batches, get_batch, leave_batch
from shared.store.claims import claim, end_unleased, finish, past_deadline
from shared.store.files import NewFile, get_file, insert_file, publish_file
from shared.store.jobs import list_jobs
from shared.store.records import Finish, JobRow
from tests.contract.store.makers import StoppedClock

PRINCIPAL = Principal(tenant_id="acme", key_id="key_1", key_name="ci")
CHAT = "/v1/chat/completions"
CLASSES = ("interactive", "default", "batch")
LEASE_S = 30.0
ANSWER = b'{\n "choices": []\n}'


class _Body(msgspec.Struct):
    model: str


_decode_body = msgspec.json.Decoder(_Body).decode


def read(body: bytes) -> Asked:
    return Asked(body=body, model=_decode_body(body).model)


def check(body: bytes) -> Asked:
    asked = read(body)
    if asked.model == "unknown":
        raise ModelNotFound("no such model", param="model")
    return asked


async def caller(row: BatchRow) -> Caller:
    return Caller(check=check, read=read)


class Bell:
    def __init__(self) -> None:
        self.rung: list[str] = []

    def ring(self, topic: str) -> None:
        self.rung.append(topic)

    async def aclose(self) -> None:
        pass


class Rig:
    """A store, objects and a clock; small groups, so that few lines are many steps."""

    def __init__(self, store, objects, clock: StoppedClock) -> None:
        self.store = store
        self.clock = clock
        self.bell = Bell()
        self._numbers = count(1)
        self.desk = BatchDesk(
            store=store,
            objects=objects,
            bell=self.bell,
            ids=lambda prefix: f"{prefix}_{next(self._numbers):06}",
            clock=clock,
            caller=caller,
            lease_s=LEASE_S,
            most_line_bytes=2_000,
            at_once=3,
            ahead=5,
        )

    def desk_with(self, store) -> BatchDesk:
        """Return the desk on another store."""
        return msgspec.structs.replace(self.desk, store=store)

    async def file(self, content: bytes, purpose="batch") -> str:
        """Store a file and return its id."""
        async with self.store.write() as tx:
            new = NewFile(
                id=self.desk.ids("file"), tenant_id="acme", purpose=purpose, filename="in.jsonl"
            )
            row = await insert_file(tx, new)
            await self.desk.objects.put(row.object_key, _pieces(content))
            await publish_file(tx, msgspec.structs.replace(row, bytes=len(content)))
        return row.id

    async def submit(self, content: bytes, **terms) -> BatchRow:
        known = {"endpoint": CHAT, "completion_window": "24h", "request_id": "req_1"}
        order = BatchOrder(input_file_id=await self.file(content), **{**known, **terms})
        return await submit_batch(
            self.store, self.bell, self.desk.ids, principal=PRINCIPAL, order=order
        )

    async def cancel(self, batch: BatchRow) -> BatchRow:
        return await cancel_batch(self.store, self.bell, tenant_id="acme", batch_id=batch.id)

    async def look(self, desk: BatchDesk | None = None) -> int:
        """Do what a worker does when it looks; return how many batches were due."""
        desk = desk or self.desk
        async with desk.store.write() as tx:
            due = await claim_batches(tx, owner="w1", lease_s=LEASE_S, limit=8)
        for row in due:
            held = Held(desk, row)
            try:
                again_s = await advance(held)
            except BatchLost:
                again_s = 0.0
            if again_s is not None:
                async with desk.store.write() as tx:
                    await leave_batch(tx, held.row, again_s)
        return len(due)

    async def claimed(self, limit=100) -> list[JobRow]:
        async with self.store.write() as tx:
            return await claim(tx, owner="w1", lease_s=LEASE_S, limit=limit, classes=CLASSES)

    async def end(self, job: JobRow, status="succeeded", **how) -> None:
        if status == "succeeded":
            how = {"response_status": 200, "response_body": ANSWER, **how}
        async with self.store.write() as tx:
            end = Finish(status=status, at=await tx.now(), **how)
            assert await finish(tx, job_id=job.id, token=job.lease_token, end=end)

    async def work(self, limit=100) -> int:
        """Run up to so many jobs that wait; all succeed."""
        jobs = await self.claimed(limit)
        for job in jobs:
            await self.end(job)
        return len(jobs)

    async def expire(self) -> None:
        """Do what the caretaker of passed deadlines does."""
        async with self.store.write() as tx:
            for job in await past_deadline(tx, await tx.now(), 100):
                error = {"code": "expired", "message": "late"}
                await end_unleased(
                    tx, job.id, Finish(status="expired", error=error, at=await tx.now())
                )

    async def until_over(self, batch: BatchRow, most=50) -> BatchRow:
        """Look and work until the batch is over."""
        for _ in range(most):
            await self.look()
            await self.work()
            self.clock.forward(LEASE_S)
            row = await self.row(batch)
            if row.status in FINAL:
                return row
        raise AssertionError(f"still {row.status}")

    async def row(self, batch: BatchRow) -> BatchRow:
        async with self.store.read() as tx:
            row = await get_batch(tx, "acme", batch.id)
        assert row is not None
        return row

    async def counts(self, batch: BatchRow) -> LineCounts:
        async with self.store.read() as tx:
            return (await line_counts(tx, [batch.id]))[batch.id]

    async def jobs(self, batch: BatchRow) -> list[JobRow]:
        async with self.store.read() as tx:
            return await list_jobs(tx, "acme", limit=1000, after=None, batch_id=batch.id)

    async def lines(self, file_id: str | None) -> list[dict]:
        """Return the lines of a file of results; none where there is no file."""
        if file_id is None:
            return []
        async with self.store.read() as tx:
            file = await get_file(tx, "acme", file_id)
        assert file is not None
        content = b"".join([piece async for piece in self.desk.objects.get(file.object_key)])
        assert len(content) == file.bytes
        return [msgspec.json.decode(line) for line in content.splitlines()]

    async def results(self, batch: BatchRow) -> tuple[list[str], dict[str, str]]:
        """Return who has an answer, and the code of everybody else; each line stands once."""
        row = await self.row(batch)
        answers = await self.lines(row.output_file_id)
        errors = await self.lines(row.error_file_id)
        assert {1} >= set(Counter(one["custom_id"] for one in [*answers, *errors]).values())
        assert (len(answers), len(errors)) == (row.completed, row.failed)
        return (
            [one["custom_id"] for one in answers],
            {one["custom_id"]: (one["error"] or {"code": "answered"})["code"] for one in errors},
        )


class Failing:
    """A store whose n-th write fails, before it begins or after it has committed."""

    def __init__(self, store, *, at: int, committed: bool) -> None:
        self._store = store
        self._at = at
        self._committed = committed
        self.writes = 0

    def read(self):
        return self._store.read()

    def write(self):
        self.writes += 1
        return _Write(self._store.write(), fails=self.writes == self._at, committed=self._committed)


class _Write:
    def __init__(self, inner, *, fails: bool, committed: bool) -> None:
        self._inner = inner
        self._fails = fails
        self._committed = committed

    async def __aenter__(self):
        if self._fails and not self._committed:
            raise StoreUnavailable("the database is away")
        return await self._inner.__aenter__()

    async def __aexit__(self, *error):
        done = await self._inner.__aexit__(*error)
        if self._fails and error == (None, None, None):
            raise StoreUnavailable("the commit's answer was lost")
        return done


def request(custom_id: str, model="m", **fields) -> dict[str, object]:
    return {
        "custom_id": custom_id,
        "method": "POST",
        "url": CHAT,
        "body": {"model": model, "messages": []},
        **fields,
    }


def text(requests: Sequence[object]) -> bytes:
    return b"\n".join(msgspec.json.encode(one) for one in requests)


def names(number: int) -> list[str]:
    return [f"line-{one}" for one in range(1, number + 1)]


def good(number: int) -> bytes:
    return text([request(name) for name in names(number)])


async def _pieces(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), 100):
        yield content[start : start + 100]
