"""What waits to be handed in is summed, and bounded."""

from shared.config.model import Limits
from shared.limits.limiter import Scope
from shared.limits.owed import MAX_SLOTS, Owed
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
