"""The spool and its keeper: what was written once reaches SQL once, whoever dies in between."""

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.chat.usage import Usage
from shared.errors import StoreUnavailable
from shared.ledger.books import Charge, Opening, Outcome
from shared.ledger.keeper import REFUSED, Keeper, SpoolBooks, replay_orphans
from shared.ledger.rows import ledger_parts
from shared.ledger.settle import Gathered, Spent, Standings, spent_by, write_charges
from shared.ledger.spool import ROTATE_BYTES, Spool, orphans
from shared.store.budgets import standing_of
from shared.store.engine import Store
from shared.store.ledger import usage_totals
from shared.store.ledger_rows import AlikeRows
from shared.store.records import BudgetRef, UsageTotals
from tests.fakes.clock import FakeClock

pytestmark = pytest.mark.anyio

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


def make_opening(number: int, **changes: object) -> Opening:
    opening = Opening(
        attempt_id=f"att_{number}",
        request_id=f"req_{number}",
        number=1,
        tenant_id="acme",
        key_id="key_1",
        endpoint="/v1/chat/completions",
        route="m",
        provider="p",
        model="p-1",
        started_at=AT,
        estimate_nanousd=700,
        estimate_usage=Usage(input_tokens=7, estimated=True),
    )
    return msgspec.structs.replace(opening, **changes)


def make_charge(opening: Opening, tokens: int = 5) -> Charge:
    return Charge(
        opening=opening,
        outcome=Outcome.SUCCEEDED,
        usage=Usage(input_tokens=tokens),
        cost_nanousd=100,
        ended_at=AT,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def left_in(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


async def totals(store: Store) -> UsageTotals:
    async with store.read() as tx:
        return await usage_totals(tx, "acme", AT - timedelta(days=1), AT + timedelta(days=1))


async def test_charges_reach_sql_and_leave_nothing(store: Store, folder: Path):
    """Also what came in several groups; the file goes when its owner does."""
    spool = Spool(folder, "api-1")
    books = SpoolBooks(spool)
    for number in range(3):
        opening = make_opening(number)
        await books.open(opening)
        books.close(make_charge(opening))

    moved = await Keeper(spool, store, FakeClock()).flush()
    spool.close()

    assert 3 == moved
    assert (3, 300) == ((await totals(store)).attempts, (await totals(store)).cost_nanousd)
    assert [] == left_in(folder)


@pytest.mark.behaviour(142)
async def test_a_dead_owner_is_replayed_once(store: Store, folder: Path):
    """Charges as they are, an opening without one as lost at its estimate; twice is once."""
    spool = Spool(folder, "api-1")
    books = SpoolBooks(spool)
    for number in range(2):
        await books.open(make_opening(number))
    books.close(make_charge(make_opening(0)))
    await asyncio.sleep(0)  # the event loop's turn ends
    with spool.path.open("ab") as file:
        file.write(b'C{"opening":')  # torn by a power cut
    assert 0 == await replay_orphans(folder, store, FakeClock(AT)), "its owner lives"
    kept = spool.path.read_bytes()
    spool.close()

    lost = await replay_orphans(folder, store, FakeClock(AT))
    (folder / "api-1-0.spool").write_bytes(kept)
    again = await replay_orphans(folder, store, FakeClock(AT))

    assert (1, 1) == (lost, again)
    found = await totals(store)
    assert (2, 800, 1) == (found.attempts, found.cost_nanousd, found.estimated_attempts)
    assert [] == left_in(folder)


async def test_a_restart_under_the_same_name_keeps_the_old_books(store: Store, folder: Path):
    """As when SLUICEWAY_PROCESS_ID stays and the process was killed."""
    killed = Spool(folder, "pod-1")
    await SpoolBooks(killed).open(make_opening(1))
    await asyncio.sleep(0)  # the event loop's turn ends
    killed.close()  # with an attempt open: the file stays, its lock does not

    restarted = Spool(folder, "pod-1")

    assert killed.path != restarted.path
    assert 1 == await replay_orphans(folder, store, FakeClock(AT), own=restarted.path)
    restarted.close()


def test_a_new_spool_is_never_taken_for_an_orphan(folder: Path):
    """However caretakers and starts fall together: what an owner writes can be found."""
    stop = threading.Event()

    def take_orphans() -> None:
        while not stop.is_set():
            for orphan in orphans(folder):
                orphan.remove()

    caretaker = threading.Thread(target=take_orphans)
    caretaker.start()
    try:
        for number in range(300):
            spool = Spool(folder, f"api-{number}")
            spool.opened.append(make_opening(number))
            spool.write()
            assert spool.path.exists()
            spool.close()
    finally:
        stop.set()
        caretaker.join()


async def test_a_drained_file_is_rotated_and_open_attempts_move_along(store: Store, folder: Path):
    spool = Spool(folder, "api-1")
    books = SpoolBooks(spool)
    first = spool.path
    await books.open(make_opening(0))
    tags = {"long": "x" * (ROTATE_BYTES // 4)}
    for number in range(1, 6):
        opening = make_opening(number, tags=tags)
        await books.open(opening)
        books.close(make_charge(opening))
    keeper = Keeper(spool, store, FakeClock())

    moved = await keeper.flush()

    assert 5 == moved
    assert first != spool.path
    assert [spool.path] == left_in(folder)
    books.close(make_charge(make_opening(0)))
    assert 1 == await keeper.flush()
    spool.close()


async def test_a_row_the_database_cannot_take_holds_up_no_other(store: Store, folder: Path):
    """It is kept in a file for people; the gateway itself never lets such a number through."""
    spool = Spool(folder, "api-1")
    books = SpoolBooks(spool)
    for number, tokens in enumerate((5, 2**63, 5)):
        await books.open(make_opening(number))
        books.close(make_charge(make_opening(number), tokens))

    await Keeper(spool, store, FakeClock()).flush()
    spool.close()

    assert 2 == (await totals(store)).attempts
    (refused,) = (folder / REFUSED).read_bytes().splitlines()
    assert "att_1" == msgspec.json.decode(refused, type=Charge).opening.attempt_id


async def test_what_is_there_already_is_written_and_settled_once(store: Store, folder: Path):
    """A commit may have reached the database although its answer did not."""
    spool = Spool(folder, "api-1")
    books, follower = SpoolBooks(spool), Noting()
    openings = [
        make_opening(number, budgets=(BudgetRef(budget_id="b", starts_at=AT),), grant="p")
        for number in range(3)
    ]
    for opening in openings:
        await books.open(opening)
        books.close(make_charge(opening))
    async with store.write() as tx:
        await write_charges(tx, [make_charge(opening) for opening in openings[:2]])

    assert 3 == await Keeper(spool, store, FakeClock(), follower).flush()
    spool.close()

    found = await totals(store)
    assert (3, 300) == (found.attempts, found.cost_nanousd)
    async with store.read() as tx:
        standing = await standing_of(tx, openings[0].budgets[0], "p")
    assert 300 == standing.settled_nanousd
    assert [{("p", openings[0].budgets): 300}] == follower.spent  # all of it is in SQL now


class Noting:
    """Notes what it hears."""

    def __init__(self) -> None:
        self.spent: list[Spent] = []

    def settled(self, spent: Spent, standings: Standings) -> None:
        self.spent.append(spent)


@given(st.data())
def test_charges_gathered_as_they_come_are_those_taken_together(data):
    """As rows, and in what they have cost whom, however they are grouped on the way."""
    windows = [
        (),
        (BudgetRef(budget_id="a", starts_at=AT),),
        (BudgetRef(budget_id="a", starts_at=AT),),  # equal, and not the same
        (BudgetRef(budget_id="a", starts_at=AT), BudgetRef(budget_id="b", starts_at=AT)),
    ]
    charges = [
        make_charge(
            make_opening(
                number,
                budgets=data.draw(st.sampled_from(windows)),
                grant=data.draw(st.sampled_from([None, "p", "q"])),
                user=data.draw(st.sampled_from([None, "ann", "a\ud800", "b\x00"])),
                tags=data.draw(st.sampled_from([{}, {"team": "x"}])),
                key_id=data.draw(st.sampled_from(["key_1", "key_2"])),
            ),
            tokens=data.draw(st.integers(0, 9)),
        )
        for number in range(data.draw(st.integers(0, 12)))
    ]
    gathered, left = Gathered(), list(charges)
    while left:
        count = data.draw(st.integers(1, len(left)))
        gathered.add(left[:count], 1)
        left = left[count:]

    assert spent_by(charges) == gathered.spent
    whole = AlikeRows([ledger_parts(charge) for charge in charges])
    assert whole.at(5) == gathered.rows.at(5)
    assert len(charges) == whole.count == gathered.rows.count
    alone = [row for one in charges for row in rows_at(AlikeRows([ledger_parts(one)]))]
    assert sorted(alone) == sorted(rows_at(gathered.rows))


def rows_at(rows: AlikeRows) -> list[str]:
    return [
        repr((*own, *common))
        for common, columns in rows.at(5)
        for own in zip(*columns, strict=True)
    ]


async def test_with_the_database_away_everything_waits(store: Store, folder: Path):
    """Nothing is dropped; the next flush after it is back moves it."""
    spool = Spool(folder, "api-1")
    await SpoolBooks(spool).open(make_opening(1))
    SpoolBooks(spool).close(make_charge(make_opening(1)))
    await store.close()

    with pytest.raises(StoreUnavailable):
        await Keeper(spool, store, FakeClock()).flush()

    assert spool.pending_bytes > 0
    spool.close()
    assert [spool.path] == left_in(folder)
