"""The spool: what is written survives, what is torn is no record, what is orphaned is replayed."""

import asyncio
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from typing_extensions import override

from shared.chat.usage import Usage
from shared.corked import MOST_HELD_BYTES, Corked
from shared.errors import StoreUnavailable
from shared.ledger.books import Charge, Opening, Outcome, lost
from shared.ledger.keeper import Keeper, SpoolBooks, replay_orphans
from shared.ledger.spool import GROUP_CHARGES, MOST_RECENT, Spool, orphans, records
from shared.store.engine import Store
from shared.store.ledger import usage_totals
from shared.store.records import BudgetRef
from tests.fakes.clock import FakeClock
from tests.fakes.pipe import PipeTransport

pytestmark = pytest.mark.anyio

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the spools lie."""
    return tmp_path / "spool"


def make_opening(number: int = 1) -> Opening:
    return Opening(
        attempt_id=f"att_{number}",
        request_id=f"req_{number}",
        number=1,
        tenant_id="acme",
        key_id="key_1",
        endpoint="/v1/chat/completions",
        route="m",
        provider="alpha",
        model="up",
        started_at=AT,
        estimate_nanousd=9_000,
        estimate_usage=Usage(input_tokens=40, output_tokens=50, estimated=True),
    )


def make_charge(number: int = 1, cost_nanousd: int = 1_000) -> Charge:
    return Charge(
        opening=make_opening(number),
        outcome=Outcome.SUCCEEDED,
        usage=Usage(input_tokens=4, output_tokens=5),
        cost_nanousd=cost_nanousd,
        ended_at=AT,
    )


def files(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def spent(store: Store) -> tuple[int, int]:
    """The attempts in SQL, and what they cost."""
    async with store.read() as tx:
        totals = await usage_totals(tx, "acme", AT.replace(year=2020), AT.replace(year=2099))
    return totals.attempts, totals.cost_nanousd


async def test_charges_reach_sql_once(folder: Path, store: Store) -> None:
    """Flushing moves what is pending, and a second flush finds nothing."""
    spool = Spool(folder, "api-1")
    books, keeper = SpoolBooks(spool), Keeper(spool, store, FakeClock())
    for number in (1, 2, 3):
        await books.open(make_opening(number))
        books.close(make_charge(number))

    assert (3, 0) == (await keeper.flush(), await keeper.flush())
    assert (3, 3_000) == await spent(store)
    spool.close()
    assert [] == files(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"budgets": (BudgetRef(budget_id="key:acme/ci/day", starts_at=AT),), "grant": "api-1"},
        {"user": 'Zoë "\u2028" \\', "tags": {"team": "größe\n", "": "\x00"}, "stream": True},
    ],
)
@pytest.mark.parametrize("rotate_bytes", [1, 1_000_000])
async def test_a_charge_says_of_its_opening_what_was_written_before(
    folder: Path, store: Store, changes: dict[str, object], rotate_bytes: int
) -> None:
    """By the letter what encoding it whole comes to, be the opening from another turn or file."""
    opening = msgspec.structs.replace(make_opening(1), **changes)
    early = msgspec.structs.replace(make_charge(1), opening=opening)
    late = msgspec.structs.replace(
        early, opening=msgspec.structs.replace(opening, attempt_id="att_2"), code="timeout"
    )
    spool = Spool(folder, "api-1", rotate_bytes=rotate_bytes)
    spool.opened += [opening, late.opening]
    spool.ended.append(early)
    spool.write()
    lines = spool.path.read_bytes()
    await Keeper(spool, store, FakeClock()).flush()  # starts a new file when that is due
    spool.ended.append(late)
    spool.write()

    encode = msgspec.json.encode
    assert b"O%b\nO%b\nC%b\n" % (encode(opening), encode(late.opening), encode(early)) == lines
    before = b"O%b\n" % encode(late.opening) if rotate_bytes == 1 else lines
    assert before + b"C%b\n" % encode(late) == spool.path.read_bytes()
    spool.close()


async def test_a_dead_process_leaves_nothing_unaccounted(folder: Path, store: Store) -> None:
    """Its charges go to SQL, an open without a close as `lost` at its estimate; once."""
    dead = Spool(folder, "api-dead")
    dead.opened.append(make_opening(1))
    dead.ended.append(make_charge(1))
    dead.opened.append(make_opening(2))
    dead.close()  # what the kernel does for a killed process: the lock is gone, the file is not

    assert 1 == await replay_orphans(folder, store, FakeClock())
    assert 0 == await replay_orphans(folder, store, FakeClock())
    assert (2, 1_000 + 9_000) == await spent(store)


async def test_a_living_process_keeps_its_spool(folder: Path, store: Store) -> None:
    """The lock tells the living from the dead."""
    alive = Spool(folder, "api-alive")
    alive.opened.append(make_opening())
    alive.write()

    assert [] == list(orphans(folder))
    assert 0 == await replay_orphans(folder, store, FakeClock())
    assert (0, 0) == await spent(store)
    alive.close()


def test_more_than_fits_in_memory_is_read_from_the_file_and_then_no_more(folder: Path) -> None:
    spool = Spool(folder, owner="p")
    written = 0

    def write(count: int) -> None:
        nonlocal written
        for _ in range(count):
            written += 1
            spool.opened.append(make_opening(written))
            spool.ended.append(make_charge(written))
        spool.write()

    for _ in range((MOST_RECENT + 2 * GROUP_CHARGES) // 100):
        write(100)
    moved = written
    assert spool.gathered() is None
    read: list[Charge] = []
    while not spool.reads_memory:
        charges, end = spool.read()
        spool.flushed(end)
        read += charges
        if len(read) < MOST_RECENT:
            write(10)  # calls do not stop coming
            moved += 10
    rest = 0
    while (group := spool.gathered()) is not None and group.rows.count:
        spool.flushed(group.end)
        rest += group.rows.count
    spool.close()

    assert [make_charge(number) for number in range(1, len(read) + 1)] == read
    assert (moved, 0) == (len(read) + rest, spool.pending_bytes)
    assert rest


def test_an_outage_does_not_split_what_waits(folder: Path) -> None:
    """What is tried again keeps its group, and what comes meanwhile shares another."""
    spool = Spool(folder, owner="p")
    for number in range(1, 30):
        spool.ended.append(make_charge(number))
        spool.write()
        assert spool.gathered() is not None  # tried, in vain
    counts = []
    while (group := spool.gathered()) is not None and group.rows.count:
        counts.append(group.rows.count)
        spool.flushed(group.end)
    spool.close()

    assert [1, 28] == counts


async def test_a_charge_that_cannot_be_taken_apart_is_on_file_once(
    folder: Path, store: Store
) -> None:
    """What goes wrong in memory does not have it written again, nor keep others from sending."""
    spool = Spool(folder, owner="p")
    spool.ended += [make_charge(1), msgspec.structs.replace(make_charge(2), outcome=None)]
    with pytest.raises(AttributeError):
        spool.write()
    spool.write()
    spool.ended.append(make_charge(3))
    spool.write()

    assert ["att_1", "att_3"] == [name for _, name in kept(spool)]
    await Keeper(spool, store, FakeClock()).flush()
    assert (2, 2_000) == await spent(store)
    spool.close()


async def test_a_charge_that_makes_no_row_does_not_keep_others_from_sql(
    folder: Path, store: Store
) -> None:
    """What is wrong with it shows only in the flush, which then reads all of them from the file."""
    spool = Spool(folder, owner="p")
    odd = msgspec.structs.replace(make_charge(2), ended_at=None)
    spool.ended += [make_charge(1), odd, make_charge(3)]
    spool.write()

    assert 2 == await Keeper(spool, store, FakeClock()).flush()
    assert (2, 2_000) == await spent(store)
    spool.close()


async def test_a_large_drained_spool_is_replaced(folder: Path, store: Store) -> None:
    """What is still open moves to the new file, so that a crash still finds it."""
    spool = Spool(folder, "api-1", rotate_bytes=20_000)
    keeper = Keeper(spool, store, FakeClock())
    spool.opened.append(make_opening(0))
    number = 0
    while spool.pending_bytes < 20_000:
        number += 1
        spool.opened.append(make_opening(number))
        spool.ended.append(make_charge(number, cost_nanousd=1))
        spool.write()
    first = spool.path
    await keeper.flush()

    assert (number, number) == await spent(store)
    assert [spool.path] == files(folder)
    assert first != spool.path
    spool.close()
    assert 1 == await replay_orphans(folder, store, FakeClock())


class BusyClock(FakeClock):
    """While somebody sleeps, so many calls a second end."""

    def __init__(self, spool: Spool, per_second: int) -> None:
        super().__init__()
        self._spool = spool
        self._per_second = per_second
        self.count = 0

    @override
    async def sleep(self, length_s: float) -> None:
        await super().sleep(length_s)
        for _ in range(round(length_s * self._per_second)):
            self.count += 1
            self._spool.opened.append(make_opening(self.count))
            self._spool.ended.append(make_charge(self.count, cost_nanousd=1))
        self._spool.write()


class NotedKeeper(Keeper):
    """Tells when it flushes, and whether it finds in memory what it is to flush."""

    def __init__(self, spool: Spool, store: Store, clock: FakeClock) -> None:
        super().__init__(spool, store, clock)
        self._noted = spool, clock
        self.flushes: list[tuple[float, bool]] = []
        self.done = asyncio.Event()

    @override
    async def flush(self) -> int:
        spool, clock = self._noted
        self.flushes.append((round(clock.elapsed_s, 3), spool.reads_memory))
        if len(self.flushes) > 4:
            self.done.set()
        return await super().flush()


@pytest.mark.parametrize(
    ("per_second", "moments"),
    [
        (0, [0.0, 0.2, 0.4, 0.6]),
        (100, [0.0, 0.2, 1.1, 2.0]),
        (4 * GROUP_CHARGES, [0.0, 0.2, 0.5, 0.8]),
    ],
)
async def test_many_charges_wait_for_each_other_until_they_are_a_group(
    folder: Path, store: Store, per_second: int, moments: list[float]
) -> None:
    """However many they are, they are flushed before they would have to be read again."""
    spool = Spool(folder, "api-1")
    keeper = NotedKeeper(spool, store, BusyClock(spool, per_second))
    running = asyncio.create_task(keeper.run())
    try:
        await keeper.done.wait()
    finally:
        running.cancel()
        await asyncio.wait([running])

    assert [(moment, True) for moment in moments] == keeper.flushes[:4]
    spool.close()


def test_a_torn_record_is_none(folder: Path) -> None:
    """Power loss may tear the last line; nothing before it suffers."""
    spool = Spool(folder, "api-1")
    spool.opened.append(make_opening())
    spool.ended.append(make_charge())
    spool.write()
    data = spool.path.read_bytes()
    spool.close()

    for cut in range(len(data) - 1):
        whole = data[: data.rfind(b"\n", 0, cut) + 1].count(b"\n")
        assert whole == len(list(records(data[:cut]))) or data[cut : cut + 1] == b"\n"


class Wire(PipeTransport):
    """A provider's connection that looks, when something is sent on it, what is on file."""

    def __init__(self, spool: Spool) -> None:
        super().__init__()
        self._spool = spool
        self.found: list[tuple[type, str]] = []

    @override
    def write(self, data: bytes) -> None:
        super().write(data)
        self.found = kept(self._spool)


def kept(spool: Spool) -> list[tuple[type, str]]:
    """What is on file, in order."""
    return [
        (Opening, record.attempt_id)
        if isinstance(record, Opening)
        else (Charge, record.opening.attempt_id)
        for record in records(spool.path.read_bytes())
    ]


def to_provider(wire: Wire, told: list[Exception]) -> Corked:
    return Corked(wire, asyncio.get_running_loop(), told.append)


async def test_what_a_turn_records_is_on_file_before_anything_of_it_leaves(folder: Path) -> None:
    """In one write; also where the connection was written to before the call was opened."""
    spool = Spool(folder, "api-1")
    books, wires = SpoolBooks(spool), [Wire(spool), Wire(spool)]
    early, late = (to_provider(wire, []) for wire in wires)
    early.write(b"another call's")
    await books.open(make_opening(1))
    await books.open(make_opening(2))
    books.close(make_charge(1))
    late.write(b"question")
    assert [] == kept(spool)

    await asyncio.sleep(0)

    expected = [(Opening, "att_1"), (Opening, "att_2"), (Charge, "att_1")]
    assert [expected, expected] == [wire.found for wire in wires]
    spool.close()


@pytest.mark.parametrize("question", [b"x" * (MOST_HELD_BYTES + 1), [b"x", b"y"]])
async def test_what_leaves_at_once_comes_after_its_record_too(
    folder: Path, question: bytes | list[bytes]
) -> None:
    spool = Spool(folder, "api-1")
    wire = Wire(spool)
    corked = to_provider(wire, [])
    await SpoolBooks(spool).open(make_opening())
    (corked.write if isinstance(question, bytes) else corked.writelines)(question)

    assert [(Opening, "att_1")] == wire.found
    spool.close()


@contextmanager
def full_disk(spool: Spool) -> Iterator[None]:
    room = spool._file
    spool._file = os.open("/dev/full", os.O_WRONLY)
    try:
        yield
    finally:
        os.close(spool._file)
        spool._file = room


async def test_a_full_disk_lets_no_call_out_and_loses_no_charge(folder: Path) -> None:
    """Each call of the turn hears of it, whenever it would leave; callers get their answers."""
    spool = Spool(folder, "api-1")
    books = SpoolBooks(spool)
    await books.open(make_opening())
    await asyncio.sleep(0)
    told: list[Exception] = []
    with full_disk(spool):
        now, later, caller = Wire(spool), Wire(spool), PipeTransport()
        await books.open(make_opening(2))
        await books.open(make_opening(3))
        to_provider(now, told).write(b"question")
        books.close(make_charge())
        Corked(caller, asyncio.get_running_loop()).write(b"answer")
        await asyncio.sleep(0)
        to_provider(later, told).write(b"question on a connection that had to be made")
        await asyncio.sleep(0)
        for _ in range(3):
            with pytest.raises(StoreUnavailable, match="cannot be written"):
                await books.open(make_opening(4))

    assert [b"", b"", b"answer"] == [now.written, later.written, caller.written]
    assert 2 == len(told)
    assert "cannot be written" in str(told[0])
    await books.open(make_opening(5))
    to_provider(wire := Wire(spool), told).write(b"question")
    await asyncio.sleep(0)
    opened = [(Opening, f"att_{number}") for number in (1, 2, 3, 5)]
    assert [*opened, (Charge, "att_1")] == wire.found
    assert 2 == len(told)
    spool.close()


async def test_a_flush_on_a_full_disk_leaves_it_to_the_turn_to_refuse(
    folder: Path, store: Store
) -> None:
    spool = Spool(folder, "api-1")
    told: list[Exception] = []
    with full_disk(spool):
        await SpoolBooks(spool).open(make_opening())
        to_provider(wire := Wire(spool), told).write(b"question")
        with pytest.raises(StoreUnavailable):
            await Keeper(spool, store, FakeClock()).flush()
        await asyncio.sleep(0)

    assert (b"", 1) == (wire.written, len(told))
    await Keeper(spool, store, FakeClock()).flush()
    assert [(Opening, "att_1")] == kept(spool)
    spool.close()


def test_a_lost_attempt_costs_its_estimate() -> None:
    """And says that it is one."""
    charge = lost(make_opening(), AT)

    assert (9_000, True, Outcome.LOST) == (
        charge.cost_nanousd,
        charge.usage.estimated,
        charge.outcome,
    )


async def test_a_part_of_a_record_is_taken_back(folder: Path, store: Store) -> None:
    """A full disk takes a part of a line; the next record is not glued to it."""
    spool = Spool(folder, "api-1")
    spool.opened.append(make_opening(1))
    spool.write()
    before, limits = spool.path.stat().st_size, resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (before + 100, limits[1]))
    try:
        spool.ended.append(make_charge(1))
        with pytest.raises(StoreUnavailable):
            spool.write()
        spool.opened.append(make_opening(2))
        with pytest.raises(StoreUnavailable):
            spool.write()
        assert before == spool.path.stat().st_size
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    await Keeper(spool, store, FakeClock()).flush()
    assert (1, 1_000) == await spent(store)
    spool.close()
