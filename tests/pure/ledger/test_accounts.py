"""What a process remembers of its grants: of users there may be very many."""

import pytest

from shared.config.model import Budget
from shared.ledger.accounts import FORGET_S, IDLE_S, LOOK_S, Accounts
from shared.ledger.grants import Grant
from shared.ledger.rule import rule_of
from tests.fakes.clock import FakeClock

TEMPLATE = rule_of("user:acme/*/month", "acme", Budget(window="month", limit_usd="1"))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def accounts(clock) -> Accounts:
    return Accounts(clock, lifetime_s=600.0)


def grant_of(accounts, clock, user: str) -> Grant:
    return accounts.grant(TEMPLATE.of_user(user), clock.now())


def look(accounts, clock, after_s: float):
    clock.advance(after_s)
    return accounts.deal((), clock.monotonic())


def test_who_comes_again_has_the_same_grant(accounts, clock):
    assert grant_of(accounts, clock, "ann") is grant_of(accounts, clock, "ann")
    assert grant_of(accounts, clock, "ann") is not grant_of(accounts, clock, "bob")


def test_a_user_without_money_is_forgotten_though_his_window_goes_on(accounts, clock):
    idle, busy = (grant_of(accounts, clock, user) for user in ("ann", "bob"))
    busy.amount, busy.held = 5, 5

    look(accounts, clock, FORGET_S + LOOK_S)

    assert [busy] == [account.grant for account in accounts]
    assert grant_of(accounts, clock, "ann") is not idle


def test_who_is_asked_for_is_not_forgotten(accounts, clock):
    ann = grant_of(accounts, clock, "ann")
    for _ in range(4):
        look(accounts, clock, FORGET_S / 2)
        assert ann is grant_of(accounts, clock, "ann")


def test_a_stock_found_low_is_filled_before_the_next_look(accounts, clock):
    """And those that nobody asked for are not gone through for it."""
    ann, bob = (grant_of(accounts, clock, user) for user in ("ann", "bob"))
    look(accounts, clock, LOOK_S)
    accounts.want(ann)

    deal = look(accounts, clock, LOOK_S / 2)

    assert [ann.ref] == list(deal.stocks)
    assert look(accounts, clock, 0.0) is None
    assert not bob.wants


def test_a_raise_counts_for_grants_that_are_there_and_that_come(accounts, clock):
    ann = grant_of(accounts, clock, "ann")
    accounts.raise_limits({"user:acme/ann/month": 7, "user:acme/bob/month": 8})

    assert (7, 8) == (ann.raised, grant_of(accounts, clock, "bob").raised)
    accounts.raise_limits({})
    assert 10**9 == ann.limit


def test_a_grant_found_low_and_then_forgotten_is_not_traded(accounts, clock):
    ann = grant_of(accounts, clock, "ann")
    accounts.want(ann)
    accounts.leave_alone(clock.monotonic() + FORGET_S + 10)

    assert look(accounts, clock, FORGET_S + LOOK_S) is None
    assert look(accounts, clock, 20 + IDLE_S) is None
