"""An outage is not multiplied: further calls are a share of the requests of late."""

from hypothesis import given
from hypothesis import strategies as st

from shared.attempts.retry_budget import FLOOR_PER_S, WINDOW_S, RetryBudget

FLOOR = FLOOR_PER_S * WINDOW_S

calls = st.lists(st.tuples(st.floats(0.0, 4.0), st.sampled_from(["asked", "again"])), max_size=300)


def test_a_quiet_route_may_try_again():
    """Whatever the share: three in a second, counted over ten."""
    budget = RetryBudget(0.0)
    taken = 0
    while budget.allows(5.0):
        budget.spend(5.0)
        taken += 1

    assert FLOOR == taken


def test_a_busy_route_may_try_again_a_share_of_its_requests():
    budget = RetryBudget(0.2)
    for number in range(1000):
        budget.asked(20.0 + number / 200)
    taken = 0
    while budget.allows(25.0):
        budget.spend(25.0)
        taken += 1

    assert 200 + FLOOR == taken


def test_what_is_long_past_is_forgotten():
    """After the window the route is as it was."""
    budget = RetryBudget(0.0)
    for _ in range(FLOOR):
        budget.spend(3.5)
    assert [False, False, True] == [budget.allows(at_s) for at_s in (3.9, 12.9, 13.0)]


@given(share=st.floats(0.0, 2.0), events=calls)
def test_in_no_window_are_there_more_calls_than_the_share(
    share: float, events: list[tuple[float, str]]
):
    """Counted by hand over the parts of a second that the budget looks back on."""
    budget = RetryBudget(share)
    now_s = 0.0
    asked: list[int] = []
    more: list[int] = []
    for pause_s, what in events:
        now_s += pause_s
        if what == "asked":
            budget.asked(now_s)
            asked.append(int(now_s))
        elif budget.allows(now_s):
            budget.spend(now_s)
            more.append(int(now_s))
            since = int(now_s) - WINDOW_S
            recent = sum(at > since for at in asked)
            # The last one was let in because there was room before it.
            assert sum(at > since for at in more) < share * recent + FLOOR + 1
