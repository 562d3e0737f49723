"""What a process asks of SQL for its budgets, and what it may then have."""

from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.ledger.grants import Need, Stock, traded
from shared.store.records import BudgetRef, BudgetStanding

AT = datetime(2026, 3, 5, tzinfo=UTC)
A = BudgetRef(budget_id="tenant:a/day", starts_at=AT)
B = BudgetRef(budget_id="key:a/b/day", starts_at=AT)


def need(amount: int, *refs: BudgetRef) -> Need:
    return Need(refs=refs or (A,), amount_nanousd=amount)


@pytest.mark.parametrize(
    ("stock", "standing", "amounts", "has"),
    [
        # exactly what waits, one call after the other, until it does not fit
        (Stock(limit_nanousd=100), BudgetStanding(), [40, 40, 40, 20], 100),
        (Stock(limit_nanousd=100), BudgetStanding(settled_nanousd=90), [20], 0),
        (Stock(limit_nanousd=100), BudgetStanding(settled_nanousd=120), [0], 0),
        # what others have is not there, what comes back is
        (
            Stock(limit_nanousd=100, returned_nanousd=30),
            BudgetStanding(amount_nanousd=40, granted_nanousd=100),
            [25],
            35,
        ),
        # SQL knows of less than the process believes
        (
            Stock(limit_nanousd=100, returned_nanousd=30),
            BudgetStanding(amount_nanousd=10, granted_nanousd=100),
            [25],
            0,
        ),
        # an eighth of what is left comes into stock, but not where somebody falls short
        (Stock(limit_nanousd=100, fills=True), BudgetStanding(), [20], 30),
        (Stock(limit_nanousd=100, fills=True), BudgetStanding(), [20, 90], 20),
        (
            Stock(limit_nanousd=100, fills=True, free_nanousd=8),
            BudgetStanding(amount_nanousd=8, granted_nanousd=8),
            [],
            12,
        ),
        (
            Stock(limit_nanousd=100, fills=True, free_nanousd=20),
            BudgetStanding(amount_nanousd=20, granted_nanousd=20),
            [],
            20,
        ),
        # a raise counts while it lasts; when it is over what was lent by it stays lent
        (Stock(limit_nanousd=100), BudgetStanding(raised_nanousd=50), [120, 30, 1], 150),
        (
            Stock(limit_nanousd=100, returned_nanousd=30),
            BudgetStanding(amount_nanousd=140, granted_nanousd=140, raised_nanousd=0),
            [1],
            110,
        ),
        # what calls cost more than they held comes first
        (
            Stock(limit_nanousd=100, free_nanousd=-30),
            BudgetStanding(amount_nanousd=50, granted_nanousd=50),
            [30],
            80,
        ),
    ],
)
def test_trades(stock, standing, amounts, has):
    assert {A: has} == traded({A: stock}, {A: standing}, [need(amount) for amount in amounts])


def test_a_call_gets_of_all_its_budgets_or_of_none():
    stocks = {A: Stock(limit_nanousd=100), B: Stock(limit_nanousd=10)}
    standings = {A: BudgetStanding(), B: BudgetStanding()}

    has = traded(stocks, standings, [need(20, A, B), need(5, A, B), need(90, A)])

    assert {A: 95, B: 5} == has


MONEY = st.integers(0, 1_000)


@st.composite
def trades(draw):
    stocks, standings = {}, {}
    for ref in (A, B):
        own, others = draw(MONEY), draw(MONEY)
        returned = draw(st.integers(0, 1_200))
        stocks[ref] = Stock(
            limit_nanousd=draw(MONEY),
            returned_nanousd=returned,
            free_nanousd=draw(st.integers(-500, 500)),
            fills=draw(st.booleans()),
        )
        standings[ref] = BudgetStanding(
            amount_nanousd=own,
            granted_nanousd=own + others,
            settled_nanousd=draw(MONEY),
            raised_nanousd=draw(st.none() | MONEY),
        )
    refs = st.sampled_from([(A,), (B,), (A, B)])
    needs = draw(st.lists(st.builds(Need, refs=refs, amount_nanousd=MONEY), max_size=6))
    return stocks, standings, needs


@given(trades())
def test_no_trade_grows_past_a_limit_or_below_nothing(trade):
    stocks, standings, needs = trade

    has = traded(stocks, standings, needs)

    for ref, amount in has.items():
        before = standings[ref]
        grown = amount - before.amount_nanousd
        limit = stocks[ref].limit_nanousd + (before.raised_nanousd or 0)
        left = limit - before.settled_nanousd - before.granted_nanousd
        assert amount >= 0
        assert grown <= max(0, left)


def test_a_ref_is_the_same_after_a_way_through_the_spool():
    packed = msgspec.json.encode(A)

    assert {A: 1} == {msgspec.json.decode(packed, type=BudgetRef): 1}
