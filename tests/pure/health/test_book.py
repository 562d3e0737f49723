"""What a process has seen of its targets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.config.model import Breaker
from shared.health.book import MOST_TARGETS, HealthBook
from shared.health.breaker import FRESH, Phase, Verdict, begun, ended
from shared.providers.target import Target
from tests.fakes.clock import FakeClock

RULES = Breaker(failures=3, window_s=30.0, open_s=15.0)
A, B = Target(provider="p", model="a"), Target(provider="p", model="b")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def changes() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def book(clock: FakeClock, changes: list[tuple[str, str]]) -> HealthBook:
    return HealthBook(clock, lambda key, _, after: changes.append((key[1], after.phase.value)))


def call(book: HealthBook, target: Target, verdict: Verdict, elapsed_s: float = 1.0) -> None:
    book.begin(target, RULES)
    book.end(target, verdict, elapsed_s, "timeout" if verdict is Verdict.BAD else None)


async def test_a_failing_target_is_unfit_until_a_probe_has_gone_well(book, clock, changes):
    for _ in range(3):
        call(book, A, Verdict.BAD)
    assert (False, True, False) == (book.is_fit(A), book.is_fit(B), book.all_closed)

    await clock.sleep(15.0)
    assert book.is_fit(A)
    book.begin(A, RULES)
    assert not book.is_fit(A), "one probe at a time"
    book.end(A, Verdict.GOOD, 1.0)

    assert (True, True) == (book.is_fit(A), book.all_closed)
    assert [("a", "open"), ("a", "half_open"), ("a", "closed")] == changes


def test_calls_under_way_are_counted(book):
    book.begin(A, RULES)
    book.begin(A, RULES)
    assert (2, 0) == (book.busy(A), book.busy(B))

    book.end(A, Verdict.SILENT, 1.0)
    assert 1 == book.busy(A)


async def test_a_slow_call_counts_at_once_and_a_fast_one_with_time(book, clock):
    call(book, A, Verdict.GOOD, 4.0)
    assert (4.0, 0.0) == (book.latency_s(A), book.latency_s(B))

    await clock.sleep(10.0)
    call(book, A, Verdict.GOOD, 1.0)
    assert 1.0 < book.latency_s(A) < 2.5
    call(book, A, Verdict.BAD, 9.0)
    assert 9.0 == book.latency_s(A)


def test_what_callers_do_is_neither_good_nor_bad(book):
    call(book, A, Verdict.SILENT, 60.0)

    assert 0.0 == book.latency_s(A)


def test_people_are_shown_why(book):
    for _ in range(3):
        call(book, A, Verdict.BAD)
    (seen,) = book.seen()

    assert ("p", "a", Phase.OPEN, "timeout", 3) == (
        seen.provider,
        seen.model,
        seen.phase,
        seen.reason,
        seen.calls,
    )


def test_what_is_idle_and_well_is_forgotten_when_there_is_too_much_of_it(book):
    for _ in range(3):
        call(book, A, Verdict.BAD)
    book.begin(B, RULES)
    for number in range(MOST_TARGETS):
        call(book, Target(provider="p", model=f"invented-{number}"), Verdict.GOOD)

    assert MOST_TARGETS > len(list(book.seen()))
    assert (False, 1) == (book.is_fit(A), book.busy(B))


@given(
    st.lists(st.tuples(st.sampled_from(list(Verdict)), st.floats(0, 9)), min_size=1, max_size=80)
)
async def test_the_book_is_the_breaker_with_less_work(story):
    """Good calls are told to the state in groups; nothing else is different for it."""
    clock = FakeClock()
    book, state = HealthBook(clock), FRESH
    for verdict, later_s in story:
        await clock.sleep(later_s)
        call(book, A, verdict)
        now_s = clock.monotonic()
        state = ended(begun(state, RULES, now_s), RULES, verdict, now_s)
        (seen,) = book.seen()
        assert (state.phase, state.since_s) == (seen.phase, seen.since_s)
