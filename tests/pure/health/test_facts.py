"""What providers say of the time to come: kept until it ends, and no longer than is sensible."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.config.model import Breaker
from shared.errors import FailureKind, UpstreamError
from shared.health.book import HealthBook
from shared.health.breaker import Verdict
from shared.health.facts import MOST, Fact, FactBook, FactKind, about, learned_from
from shared.providers.target import Target
from tests.fakes.clock import FakeClock

RULES = Breaker(limited_s=120.0, parked_s=60.0)
KEY = ("p", "a", "k1")
OTHER_MODEL = ("p", "b", "k1")
OTHER_KEY = ("p", "a", "k2")
A = Target(provider="p", model="a", credential="k1")


def failure(kind: FailureKind, hint_s: float | None = None, status: int = 429) -> UpstreamError:
    return UpstreamError(kind, "no", status=status, retry_after_s=hint_s)


def limited(until_s: float) -> Fact:
    return Fact(kind=FactKind.LIMITED, until_s=until_s)


def parked(until_s: float) -> Fact:
    return Fact(kind=FactKind.PARKED, until_s=until_s)


@pytest.mark.parametrize(
    ("error", "fact"),
    [
        (failure(FailureKind.RATE_LIMITED, 7.0), limited(107.0)),
        (failure(FailureKind.OVERLOADED, 7.0), limited(107.0)),
        pytest.param(
            failure(FailureKind.RATE_LIMITED, 9e9), limited(220.0), marks=pytest.mark.behaviour(132)
        ),
        (failure(FailureKind.RATE_LIMITED), None),
        (failure(FailureKind.CREDENTIAL), parked(160.0)),
        (failure(FailureKind.SERVER_ERROR, 7.0), None),
        (failure(FailureKind.REJECTED), None),
    ],
)
def test_a_failure_may_tell_when_to_come_back(error, fact):
    """However far away the provider puts it, two minutes is the most: some name days."""
    assert fact == learned_from(error, RULES, 100.0)


def test_nothing_is_learnt_where_the_config_says_so():
    rules = Breaker(limited_s=0.0, parked_s=0.0)

    assert learned_from(failure(FailureKind.RATE_LIMITED, 7.0), rules, 0.0) is None
    assert learned_from(failure(FailureKind.CREDENTIAL), rules, 0.0) is None


@pytest.mark.parametrize(
    ("key", "kind", "status", "whom"),
    [
        (KEY, FailureKind.CREDENTIAL, 401, ("p", "", "k1")),
        (KEY, FailureKind.CREDENTIAL, 403, KEY),
        (KEY, FailureKind.RATE_LIMITED, 429, KEY),
        (("p", "a", "default"), FailureKind.CREDENTIAL, 401, ("p", "a", "default")),
    ],
)
def test_a_refused_key_is_refused_for_all_models(key, kind, status, whom):
    """Where another may take its place; a 403 may mean the model alone."""
    assert whom == about(key, failure(kind, status=status))


def test_a_fact_ends_by_itself():
    book = FactBook()
    book.learn(KEY, limited(5.0), 0.0)

    assert [limited(5.0), None] == [book.of(KEY, at_s) for at_s in (4.9, 5.0)]
    assert [None, None] == [book.of(key, 1.0) for key in (OTHER_MODEL, OTHER_KEY)]
    assert [True, False] == [book.holds_any(at_s) for at_s in (4.9, 5.0)]
    assert [] == list(book)


def test_a_parked_credential_is_parked_for_all_its_models():
    book = FactBook()
    book.learn(("p", "", "k1"), parked(9.0), 0.0)

    assert [True, True, False] == [
        book.of(key, 1.0) is not None for key in (KEY, OTHER_MODEL, OTHER_KEY)
    ]


def test_a_credential_that_works_again_is_no_longer_parked():
    """That a target is limited stays true: the call that went well may have begun before."""
    book = FactBook()
    book.now_told({("p", "", "k1"): parked(9.0)})
    book.learn(OTHER_KEY, limited(9.0), 0.0)
    for key in (KEY, OTHER_KEY):
        book.cleared(key, 1.0)

    assert (None, limited(9.0)) == (book.of(KEY, 1.0), book.of(OTHER_KEY, 1.0))


def test_each_fact_is_told_once():
    """A storm of refusals is one line in the log, not one for each."""
    told = []
    book = FactBook(lambda *one: told.append(one))
    for at_s in (0.0, 0.1, 0.2, 11.0):
        book.learn(KEY, limited(at_s + 10.0), at_s)

    assert [(KEY, limited(10.0), 10.0), (KEY, limited(21.0), 10.0)] == told


def test_others_are_told_what_they_have_not_been_told():
    book = FactBook()
    book.learn(OTHER_MODEL, limited(5.0), 0.0)
    assert {} == book.take_changes(), "nobody took them then"

    book.shared = True
    book.learn(KEY, parked(5.0), 0.0)
    lost = book.take_changes()
    assert {KEY: parked(5.0)} == lost
    book.cleared(KEY, 1.0)
    book.put_back(lost)

    assert {KEY: None} == book.take_changes()


def test_no_more_than_so_many_are_kept():
    """Callers may invent models without number, each of which a provider may refuse."""
    book = FactBook()
    for number in range(MOST + 1):
        book.learn(("p", str(number), "k"), limited(1_000.0 + number), 0.0)

    assert MOST == len(list(book))
    assert book.of(("p", "0", "k"), 0.0) is None


async def test_a_target_with_a_fact_is_unfit_until_then():
    """And the plans that are made in advance serve again afterwards."""
    clock = FakeClock()
    book = HealthBook(clock)
    book.begin(A, RULES)
    book.learn(A, failure(FailureKind.RATE_LIMITED, 7.0))
    book.end(A, Verdict.SILENT, 1.0)
    (seen,) = book.seen()
    assert (False, False, limited(7.0)) == (book.is_fit(A), book.all_closed, seen.fact)

    await clock.sleep(7.0)
    assert (True, True) == (book.is_fit(A), book.all_closed)


stories = st.lists(
    st.tuples(
        st.sampled_from(["learn", "told", "cleared", "wait"]),
        st.sampled_from([KEY, OTHER_KEY, ("p", "", "k1")]),
        st.sampled_from(list(FactKind)),
        st.floats(0.1, 10.0),
    ),
    max_size=40,
)


@given(stories)
def test_no_fact_outlives_its_end(story):
    """Whatever was learnt, told and cleared: after the longest wait there is none."""
    book = FactBook()
    now_s = 0.0
    for what, key, kind, length_s in story:
        fact = Fact(kind=kind, until_s=now_s + length_s)
        match what:
            case "learn":
                book.learn(key, fact, now_s)
                assert book.of(key, now_s) is not None
            case "told":
                book.now_told({key: fact})
            case "cleared":
                book.cleared(key, now_s)
            case _:
                now_s += length_s
        held = [key for key in (KEY, OTHER_KEY) if book.of(key, now_s) is not None]
        assert not held or book.holds_any(now_s)

    assert not book.holds_any(now_s + 10.0)
    assert [] == list(book)
