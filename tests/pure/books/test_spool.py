"""The spool: what is written survives, what is torn is no record, what is orphaned is replayed."""

import asyncio
import os
import resource
from datetime import UTC, datetime
from pathlib import Path

import pytest

from shared.chat.usage import Usage
from shared.errors import StoreUnavailable
from shared.ledger.books import Charge, Opening, Outcome, lost
from shared.ledger.keeper import Keeper, SpoolBooks, replay_orphans
from shared.ledger.spool import MOST_RECENT, Spool, orphans, records
from shared.store.engine import Store
from shared.store.ledger import usage_totals
from tests.fakes.clock import FakeClock

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


async def test_a_dead_process_leaves_nothing_unaccounted(folder: Path, store: Store) -> None:
    """Its charges go to SQL, an open without a close as `lost` at its estimate; once."""
    dead = Spool(folder, "api-dead")
    dead.append_opening(make_opening(1))
    dead.add_charge(make_charge(1))
    dead.append_opening(make_opening(2))
    dead.close()  # what the kernel does for a killed process: the lock is gone, the file is not

    assert 1 == await replay_orphans(folder, store, FakeClock())
    assert 0 == await replay_orphans(folder, store, FakeClock())
    assert (2, 1_000 + 9_000) == await spent(store)


async def test_a_living_process_keeps_its_spool(folder: Path, store: Store) -> None:
    """The lock tells the living from the dead."""
    alive = Spool(folder, "api-alive")
    alive.append_opening(make_opening())

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
            spool.append_opening(make_opening(written))
            spool.add_charge(make_charge(written))
        spool.write_waiting()

    write(MOST_RECENT + 500)
    read: list[Charge] = []
    from_memory = []
    while spool.pending_bytes:
        charges, end = spool.read()
        spool.flushed(end)
        read += charges
        from_memory.append(spool.reads_memory)
        if len(read) < MOST_RECENT:
            write(10)  # calls do not stop coming
    spool.close()

    assert [make_charge(number) for number in range(1, written + 1)] == read
    assert (False, True) == (from_memory[0], from_memory[-1])
    assert sorted(from_memory) == from_memory


async def test_a_large_drained_spool_is_replaced(folder: Path, store: Store) -> None:
    """What is still open moves to the new file, so that a crash still finds it."""
    spool = Spool(folder, "api-1", rotate_bytes=20_000)
    keeper = Keeper(spool, store, FakeClock())
    spool.append_opening(make_opening(0))
    number = 0
    while spool.pending_bytes < 20_000:
        number += 1
        spool.append_opening(make_opening(number))
        spool.add_charge(make_charge(number, cost_nanousd=1))
        spool.write_waiting()
    first = spool.path
    await keeper.flush()

    assert (number, number) == await spent(store)
    assert [spool.path] == files(folder)
    assert first != spool.path
    spool.close()
    assert 1 == await replay_orphans(folder, store, FakeClock())


def test_a_torn_record_is_none(folder: Path) -> None:
    """Power loss may tear the last line; nothing before it suffers."""
    spool = Spool(folder, "api-1")
    spool.append_opening(make_opening())
    spool.add_charge(make_charge())
    spool.write_waiting()
    data = spool.path.read_bytes()
    spool.close()

    for cut in range(len(data) - 1):
        whole = data[: data.rfind(b"\n", 0, cut) + 1].count(b"\n")
        assert whole == len(list(records(data[:cut]))) or data[cut : cut + 1] == b"\n"


async def test_a_full_disk_refuses_calls_and_loses_no_charge(folder: Path) -> None:
    """Opening raises; a charge waits in memory and is written first once there is room."""
    spool = Spool(folder, "api-1")
    books = SpoolBooks(spool)
    await books.open(make_opening())
    room = spool._file
    spool._file = os.open("/dev/full", os.O_WRONLY)

    books.close(make_charge())
    with pytest.raises(StoreUnavailable, match="cannot be written"):
        await books.open(make_opening(2))

    os.close(spool._file)
    spool._file = room
    await books.open(make_opening(2))
    kinds = [type(record) for record in records(spool.path.read_bytes())]
    assert [Opening, Charge, Opening] == kinds
    spool.close()


async def opened_together(books: SpoolBooks, *numbers: int) -> list[asyncio.Task[None]]:
    """Calls that open in one turn, as far as they come in it; the turn before was as busy."""
    first = [asyncio.create_task(books.open(make_opening(number))) for number in (91, 92)]
    await asyncio.gather(*first)
    tasks = [asyncio.create_task(books.open(make_opening(number))) for number in numbers]
    await asyncio.sleep(0)
    return tasks


def kept(spool: Spool) -> list[tuple[type, str]]:
    """What is on file beside what stands there to make the turn busy."""
    found = [
        (Opening, record.attempt_id)
        if isinstance(record, Opening)
        else (Charge, record.opening.attempt_id)
        for record in records(spool.path.read_bytes())
    ]
    return [(kind, name) for kind, name in found if name not in {"att_91", "att_92"}]


async def test_a_call_that_comes_alone_does_not_wait(folder: Path) -> None:
    """It is on file before the event loop turns."""
    spool = Spool(folder, "api-1")
    books = SpoolBooks(spool)
    for number in (1, 2, 3):
        step = books.open(make_opening(number))
        with pytest.raises(StopIteration):
            step.send(None)
        await asyncio.sleep(0)

    assert ["att_1", "att_2", "att_3"] == [name for _, name in kept(spool)]
    spool.close()


async def test_calls_that_open_together_share_a_write(folder: Path) -> None:
    """None of them goes on before all are on file, with the charges before them."""
    spool = Spool(folder, "api-1")
    books = SpoolBooks(spool)
    tasks = await opened_together(books, 1, 2, 3)
    books.close(make_charge(91))

    assert [] == kept(spool)
    assert not any(task.done() for task in tasks)
    await asyncio.gather(*tasks)
    assert [(Opening, f"att_{number}") for number in (1, 2, 3)] == kept(spool)
    assert b"C" in {line[:1] for line in spool.path.read_bytes().splitlines()[:3]}
    spool.close()


async def test_a_full_disk_refuses_all_that_open_together(folder: Path) -> None:
    """Each hears of it, the charge of the same turn is kept, and the next are written."""
    spool = Spool(folder, "api-1")
    books = SpoolBooks(spool)
    tasks = await opened_together(books, 1, 2)
    books.close(make_charge(91))
    room = spool._file
    spool._file = os.open("/dev/full", os.O_WRONLY)

    told = await asyncio.gather(*tasks, return_exceptions=True)

    assert [StoreUnavailable, StoreUnavailable] == [type(error) for error in told]
    os.close(spool._file)
    spool._file = room
    await asyncio.gather(*(books.open(make_opening(number)) for number in (3, 4)))
    assert [(Opening, "att_3"), (Opening, "att_4")] == kept(spool)
    assert 1 == sum(isinstance(one, Charge) for one in records(spool.path.read_bytes()))
    spool.close()


async def test_a_caller_who_leaves_while_it_is_written_has_cost_nothing(
    folder: Path, store: Store
) -> None:
    """Its call is never made, so what stands open of it is closed, and no crash makes it `lost`."""
    spool = Spool(folder, "api-1")
    books = SpoolBooks(spool)
    tasks = await opened_together(books, 1, 2)

    tasks[0].cancel()
    told = await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(0)

    assert [asyncio.CancelledError, type(None)] == [type(one) for one in told]
    assert [(Opening, "att_1"), (Opening, "att_2"), (Charge, "att_1")] == kept(spool)
    assert 1 == await Keeper(spool, store, FakeClock()).flush()
    assert (1, 0) == await spent(store)
    spool.close()


async def test_a_caller_who_leaves_a_full_disk_has_no_record(folder: Path) -> None:
    spool = Spool(folder, "api-1")
    tasks = await opened_together(SpoolBooks(spool), 1, 2)
    room = spool._file
    spool._file = os.open("/dev/full", os.O_WRONLY)

    tasks[0].cancel()
    told = await asyncio.gather(*tasks, return_exceptions=True)

    assert [asyncio.CancelledError, StoreUnavailable] == [type(one) for one in told]
    os.close(spool._file)
    spool._file = room
    spool.write_waiting()
    assert [] == kept(spool)
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
    spool.append_opening(make_opening(1))
    before, limits = spool.path.stat().st_size, resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (before + 100, limits[1]))
    try:
        spool.add_charge(make_charge(1))
        with pytest.raises(StoreUnavailable):
            spool.write_waiting()
        with pytest.raises(StoreUnavailable):
            spool.append_opening(make_opening(2))
        assert before == spool.path.stat().st_size
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    await Keeper(spool, store, FakeClock()).flush()
    assert (1, 1_000) == await spent(store)
    spool.close()
