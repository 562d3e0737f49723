"""A second target beside a slow first one: the first answer wins, and both are in the books."""

import time

import msgspec
import pytest

from tests.fakes.scripted import TEXT, Story
from tests.fakes.stack import eventually
from tests.fakes.upstream import status
from tests.flows.scenes import Rig, asked_whole, body_of, streamed

SLOW = Story(first_s=1.5)
MODEL = "hedged-route"


def ask(rig: Rig, name: str, *, stream: bool) -> tuple[str, str, str]:
    """Return the text, who gave it, and of how many calls."""
    if stream:
        seen = streamed(rig, MODEL, request_id=name)
    else:
        seen = asked_whole(rig, MODEL, request_id=name)
    headers = seen.headers
    return seen.text, headers["x-sluiceway-provider"], headers["x-sluiceway-attempts"]


@pytest.mark.parametrize("stream", [True, False])
def test_a_slow_target_loses(rig: Rig, stream):
    """Its call ends within a second, and stands in the books as cancelled."""
    rig.vendor.always("alpha", SLOW)
    name = f"hedge-slow-{stream}"
    began_s = time.monotonic()

    assert (TEXT, "beta", "2") == ask(rig, name, stream=stream)

    answered_s = time.monotonic()
    assert 0.1 < answered_s - began_s < 1.4
    connection = rig.vendor.connections[rig.vendor.asked("alpha")[0].connection]
    closed_at_s = eventually(lambda: connection.closed_at_s)
    assert closed_at_s - answered_s < 1
    rows = rig.stack.wait_for_ledger(name, 2)
    assert [("alpha", "cancelled"), ("beta", "succeeded")] == sorted(
        (row["provider"], row["outcome"]) for row in rows
    )


@pytest.mark.parametrize("stream", [True, False])
def test_the_first_may_still_win(rig: Rig, stream):
    rig.vendor.always("alpha", Story(first_s=0.4))
    rig.vendor.always("beta", SLOW)
    name = f"hedge-first-{stream}"

    assert (TEXT, "alpha", "2") == ask(rig, name, stream=stream)
    rows = rig.stack.wait_for_ledger(name, 2)
    assert [("alpha", "succeeded"), ("beta", "cancelled")] == sorted(
        (row["provider"], row["outcome"]) for row in rows
    )


@pytest.mark.parametrize("stream", [True, False])
def test_a_quick_target_has_no_rival(rig: Rig, stream):
    assert (TEXT, "alpha", "1") == ask(rig, f"hedge-quick-{stream}", stream=stream)
    assert (1, 0) == rig.asked()


def test_when_both_fail_each_was_asked_once(rig: Rig):
    """The chain does not ask the second one again: it has answered already."""
    rig.vendor.always("alpha", msgspec.structs.replace(status(500), wait_s=0.3))
    rig.vendor.always("beta", status(500))

    answer = rig.http.post("/v1/chat/completions", json=body_of(MODEL))

    assert 502 == answer.status_code
    assert ["alpha", "beta"] == sorted(
        one["provider"] for one in answer.json()["error"]["attempts"]
    )
    assert (1, 1) == rig.asked()


def test_the_second_answers_when_the_first_fails_late(rig: Rig):
    """It is waited for, and not asked twice."""
    rig.vendor.always("alpha", Story(first_s=0.2, cut_after=0))
    rig.vendor.always("beta", Story(first_s=0.4))

    assert (TEXT, "beta", "2") == ask(rig, "hedge-late", stream=True)
    assert (1, 1) == rig.asked()
