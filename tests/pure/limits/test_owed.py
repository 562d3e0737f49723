"""What waits to be handed in is summed, and bounded."""

from hypothesis import given
from hypothesis import strategies as st

from shared.config.model import Limits
from shared.limits.limiter import Scope
from shared.limits.owed import MAX_ENDED, MAX_SLOTS, Owed
from shared.limits.rules import Demand

WITH_SLOTS = Scope(name="tenant:acme", limits=Limits(rpm=1, concurrency=1))
WITHOUT = Scope(name="key:ci", limits=Limits(rpm=1))


def shown(rows):
    return [(row.scope.name, row.requests, row.tokens, row.slots) for row in rows]


def test_changes_of_a_scope_are_one_row():
    owed = Owed()
    owed.add(WITH_SLOTS, Demand(-1, -10), ["a"])
    owed.add(WITHOUT, Demand(-1, -10), ["a"])
    owed.add(WITH_SLOTS, Demand(0, 4), ["b"])

    assert [("tenant:acme", -1, -6, ["a", "b"]), ("key:ci", -1, -10, [])] == shown(owed.cut(9))
    assert not owed


def test_what_did_not_arrive_is_sent_again_with_what_came_meanwhile():
    owed = Owed()
    owed.add(WITHOUT, Demand(0, 5))
    rows = owed.cut(9)
    owed.add(WITHOUT, Demand(0, 2))
    owed.put_back(rows)

    assert [("key:ci", 0, 7, [])] == shown(owed.cut(9))


def test_slots_of_a_long_outage_are_bounded():
    owed = Owed()
    for number in range(3 * MAX_SLOTS):
        owed.add(WITH_SLOTS, Demand(0, 0), [str(number)])

    assert MAX_SLOTS == len(owed.cut(1)[0].slots)


SHARED = ((WITH_SLOTS, WITHOUT), (WITHOUT,), (WITH_SLOTS,))
ENDS = st.lists(
    st.tuples(st.sampled_from(SHARED), st.booleans(), st.integers(0, 1), st.integers(-99, 99))
)


@given(ENDS)
def test_ends_are_summed_as_one_by_one(ends):
    """Whether calls share a tuple of scopes or each has its own."""
    together, alone = Owed(), Owed()
    for number, (scopes, own, requests, tokens) in enumerate(ends):
        told = (*scopes,) if own else scopes
        together.end(told, str(number), requests, tokens)
        for scope in scopes:
            alone.add(scope, Demand(requests, tokens), [str(number)])

    assert bool(alone) == bool(together)
    assert by_name(alone.cut(9)) == by_name(together.cut(9))
    assert not together


def by_name(rows):
    return sorted((name, *sums, sorted(slots)) for name, *sums, slots in shown(rows))


def test_ends_of_a_long_outage_are_bounded():
    """However many they are, and whoever shares their scopes."""
    owed = Owed()
    for number in range(3 * MAX_SLOTS):
        owed.end((WITH_SLOTS,), str(number), 0, 0)
        owed.end(SHARED[0], str(number), 0, 0)
        assert len(owed._ended) <= MAX_ENDED

    assert [MAX_SLOTS, 0] == [len(row.slots) for row in owed.cut(2)]
