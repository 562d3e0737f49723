"""The arithmetic of buckets: its laws, and what callers are told."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.config.model import Limits
from shared.limits.limiter import Scope, Standing
from shared.limits.rules import (
    FULL,
    PERIODS_S,
    ROUNDING,
    Demand,
    State,
    figures_of,
    fits,
    full_in_s,
    moved,
    refilled,
    refusal,
    slot_fits,
    standing_of,
    undone,
)

limits = st.builds(
    Limits,
    rpm=st.none() | st.integers(1, 1000),
    tpm=st.none() | st.integers(1, 100_000),
    rpd=st.none() | st.integers(1, 10_000),
    tpd=st.none() | st.integers(1, 1_000_000),
)
calls = st.lists(
    st.tuples(st.floats(0, 120), st.integers(0, 5000), st.floats(0, 1)), min_size=1, max_size=60
)


def replay(figures, steps):
    """Yield each admitted call: its moment, its tokens, those it used, the levels after it."""
    now_s, state = 1000.0, State(1000.0, FULL)
    for wait_s, tokens, used_share in steps:
        now_s += wait_s
        levels = refilled(state, figures, now_s)
        demand = Demand(1, tokens)
        if fits(levels, figures, demand):
            levels = moved(levels, figures, Demand(-1, -tokens))
            used = math.floor(tokens * used_share)
            yield now_s, tokens, used, levels
            levels = moved(levels, figures, Demand(0, tokens - used))
        state = State(now_s, levels)


@given(limits, calls)
def test_no_stretch_of_time_lets_more_requests_pass_than_burst_and_rate(limited, steps):
    """Over any T seconds: at most figure + rate x T."""
    admitted = [now_s for now_s, *_ in replay(figures_of(limited), steps)]

    for figure, period_s in ((limited.rpm, 60), (limited.rpd, 86_400)):
        if figure is not None:
            for first, since_s in enumerate(admitted):
                for last in range(first, len(admitted)):
                    most = figure + (admitted[last] - since_s) * figure / period_s
                    assert last - first + 1 <= most + 1e-3


@given(st.integers(1, 10_000), st.lists(st.tuples(st.floats(0, 60), st.integers(0, 20_000))))
def test_no_stretch_of_time_lets_more_tokens_pass_but_for_one_large_call(tpm, steps):
    """A call that no bucket could hold may pass a full one, and is paid off before the next."""
    figures = figures_of(Limits(tpm=tpm))
    passed = [
        (now_s, tokens)
        for now_s, tokens, *_ in replay(figures, [(wait_s, tokens, 1) for wait_s, tokens in steps])
    ]

    for first, (since_s, _) in enumerate(passed):
        spent = 0
        for now_s, tokens in passed[first:]:
            spent += tokens
            assert spent <= tpm + (now_s - since_s) * tpm / 60 + max(0, tokens - tpm) + 1e-3


@given(limits, calls)
def test_no_bucket_ever_holds_more_than_its_figure(limited, steps):
    figures = figures_of(limited)

    for *_, tokens, used, levels in replay(figures, steps):
        after = moved(levels, figures, Demand(0, tokens - used))
        assert all(level <= figure for level, figure in zip(after, figures, strict=True) if figure)


@given(limits, calls, st.integers(0, 200_000))
def test_the_wait_that_is_named_is_long_enough(limited, steps, tokens):
    figures = figures_of(limited)
    levels = [levels for *_, levels in replay(figures, steps)][-1:] or [
        refilled(State(0, FULL), figures, 0)
    ]
    demand = Demand(1, tokens)
    scope = Scope(name="tenant:acme", limits=limited)

    wait_s = refusal([(scope, levels[0], 0)], demand, Standing()).retry_after_s

    assert fits(refilled(State(0, levels[0]), figures, wait_s), figures, demand)


@given(limits, calls)
def test_the_time_to_full_is_exact(limited, steps):
    figures = figures_of(limited)
    for *_, levels in replay(figures, steps):
        later = refilled(State(0, levels), figures, full_in_s(levels, figures) + 1e-6)
        assert 0 == pytest.approx(full_in_s(later, figures), abs=1e-3)


def test_a_clock_that_goes_back_refills_nothing():
    figures = figures_of(Limits(rpm=60))

    assert 5 == refilled(State(100, (5, 5, 5, 5)), figures, 40)[0]


def test_a_larger_call_than_a_bucket_holds_passes_only_a_full_one():
    figures = figures_of(Limits(tpm=100))

    assert fits(refilled(State(0, FULL), figures, 0), figures, Demand(1, 5000))
    assert not fits((math.inf, math.inf, 99, math.inf), figures, Demand(1, 5000))


@pytest.mark.parametrize(
    ("concurrency", "used", "share", "expected"),
    [
        (None, 10_000, 1, True),
        (2, 0, 1, True),
        (2, 1, 1, True),
        (2, 2, 1, False),
        (8, 1, 4, True),
        (8, 2, 4, False),
        (2, 0, 4, True),  # a share below one still lets one call run
        (2, 1, 4, False),
    ],
)
def test_slots(concurrency, used, share, expected):
    assert expected == slot_fits(Limits(concurrency=concurrency), used, share=share)


def test_the_standing_is_that_of_the_tightest_rate():
    """Requests: 3 of a key's 10 a minute. Tokens: 40 of the tenant's 1,000 a day."""
    tenant = (figures_of(Limits(rpm=600, tpd=1000)), (500.0, math.inf, math.inf, 40.9))
    key = (figures_of(Limits(rpm=10)), (3.5, math.inf, math.inf, math.inf))

    assert Standing(
        limit_requests=10,
        remaining_requests=3,
        reset_requests_s=39.0,
        limit_tokens=1000,
        remaining_tokens=40,
        reset_tokens_s=pytest.approx(82_866.24),
    ) == standing_of([tenant, key])


def test_a_debt_shows_as_nothing_left():
    standing = standing_of([(figures_of(Limits(tpm=60)), (math.inf, math.inf, -60.0, math.inf))])

    assert (0, 120.0) == (standing.remaining_tokens, standing.reset_tokens_s)


@pytest.mark.parametrize("level", [5.0, 4.0, 1.0])
def test_an_undone_call_stands_as_before(level):
    """What it took is there again, and so much sooner all of it."""
    figures = figures_of(Limits(rpm=5, tpm=500))

    def standing(requests, tokens):
        return standing_of([(figures, (requests, math.inf, tokens, math.inf))])

    before, taken = standing(level, level * 100), standing(level - 1, level * 100 - 40)

    assert before == undone(taken, tokens=40)


def test_what_an_undone_call_leaves_of_a_debt_is_not_known():
    """Without its tokens the bucket may still be in debt: it is said to be empty."""
    taken = standing_of([(figures_of(Limits(tpm=60)), (math.inf, math.inf, -60.0, math.inf))])

    assert taken == undone(taken, tokens=70)
    assert Standing() == undone(Standing(), tokens=70)


def test_nothing_limited_has_no_standing():
    assert Standing() == standing_of([(figures_of(Limits(concurrency=5)), FULL)])


FIGURE = st.sampled_from([0, 1, 60, 100])
LEVEL = st.sampled_from([-60.0, -0.5, 0.0, 0.9999995, 1.0, 1.5, 59.99, 60.0])
PAIRS = st.lists(
    st.tuples(st.tuples(*[FIGURE] * 4), st.tuples(*[LEVEL] * 4)),
    max_size=3,
)


@given(PAIRS, st.integers(1, 3))
def test_the_tightest_rate_has_least_left_and_is_soonest_whole(pairs, share):
    """Of equal ones the lowest figure: the least of all rates, whichever come first."""

    def least(kinds):
        rates = [
            (
                max(0, math.floor((levels[kind] + ROUNDING) / share)),
                max(0.0, figures[kind] - levels[kind]) * PERIODS_S[kind] / figures[kind],
                figures[kind],
            )
            for figures, levels in pairs
            for kind in kinds
            if figures[kind]
        ]
        return min(rates, default=(None, None, None))

    standing = standing_of(pairs, share=share)

    assert least((0, 1)) == (
        standing.remaining_requests,
        standing.reset_requests_s,
        standing.limit_requests,
    )
    assert least((2, 3)) == (
        standing.remaining_tokens,
        standing.reset_tokens_s,
        standing.limit_tokens,
    )


def test_a_refusal_names_the_limit_with_the_longest_wait():
    rows = [
        (Scope(name="tenant:acme", limits=Limits(rpm=60)), (0.5, *FULL[1:]), 0),
        (
            Scope(name="key:ci", limits=Limits(tpm=600, concurrency=2)),
            (*FULL[:2], 20.0, FULL[3]),
            2,
        ),
    ]

    error = refusal(rows, Demand(1, 50), Standing(limit_requests=60))

    assert "The limit of 600 tokens per minute for key:ci is reached; try again in 3 s." == str(
        error
    )
    assert (3.0, Standing(limit_requests=60)) == (error.retry_after_s, error.standing)


def test_a_refusal_for_want_of_a_slot_says_so():
    row = (Scope(name="tenant:acme", limits=Limits(concurrency=2)), FULL, 2)

    error = refusal([row], Demand(1, 50), Standing())

    assert "The limit of 2 concurrent calls for tenant:acme is reached; try again in 1 s." == str(
        error
    )
