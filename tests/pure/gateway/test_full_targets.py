"""Limits of single targets: a full one is passed over, at nobody's cost."""

import asyncio
import json

import pytest

from shared.clock import Deadline
from shared.config.model import Limits
from shared.errors import ChainFailed, RateLimitExceeded, StoreUnavailable
from shared.gateway.answer import CallContext
from shared.gateway.parse import parse_request
from shared.identity import Principal
from tests.pure.gateway.test_gateway import Gate

pytestmark = pytest.mark.anyio

CONFIG = """
providers:
  near: {kind: mock}
  far: {kind: mock}
  down: {kind: mock, params: {mock: {status: 500}}}
  chat_only: {kind: groq, api_key: k}
defaults: {retry: {max_attempts: 1}}
routes:
- {model: two, targets: [{provider: near, model: e, limits: {rpm: 2}}, {provider: far, model: e}]}
- {model: day, targets: [{provider: near, model: d, limits: {rpd: 2}}, {provider: far, model: d}]}
- {model: tokens, targets: [{provider: near, model: t, limits: {tpm: 9000}}]}
- {model: slots, targets: [{provider: near, model: s, limits: {concurrency: 1}}]}
- {model: own, limits: {rpm: 2}, targets: [{provider: near, model: o, limits: {rpm: 1}}]}
- {model: other_way, on_failure: {rate_limited: [free]},
   targets: [{provider: near, model: w, limits: {rpm: 1}}]}
- {model: free, targets: [{provider: far, model: f}]}
- {model: both, targets: [{provider: near, model: b, limits: {rpm: 1}}, {provider: down, model: b}]}
- {model: waits, targets: [{provider: near, model: w1, limits: {rpm: 1}},
   {provider: far, model: w2, limits: {rpm: 4}}]}
- {model: unasked, targets: [{provider: chat_only, model: e, limits: {rpm: 1}},
   {provider: far, model: e}]}
- {model: again, retry: {max_attempts: 3, base_s: 0},
   targets: [{provider: down, model: a, limits: {rpm: 2}}, {provider: far, model: a}]}
- {model: "w/*", targets: [{provider: near, model: "x-*", limits: {rpm: 1}}]}
"""


@pytest.fixture
def gate() -> Gate:
    return Gate(CONFIG)


async def asked(gate: Gate, model: str, *, calls: int) -> list[str]:
    """Return who answered each of the calls, one after the other."""
    return [(await gate.embed(model)).provider for _ in range(calls)]


async def stream(gate: Gate, model: str):
    body = {"model": model, "stream": True, "messages": [{"role": "user", "content": "hello"}]}
    return await gate.gateway.stream(
        Principal(tenant_id="t", key_id="k", key_name="n"),
        parse_request("/v1/chat/completions", json.dumps(body).encode()),
        deadline=Deadline.after(60, gate.clock),
        books=gate.books,
        holds=gate.holds,
        context=CallContext(request_id="req_1"),
    )


async def test_a_full_target_is_passed_over_and_leaves_no_trace_in_the_books(gate):
    answers = [await gate.embed("two") for _ in range(4)]

    assert ["near", "near", "far", "far"] == [answer.provider for answer in answers]
    assert [1, 1, 1, 1] == [len(answer.attempts) for answer in answers]
    assert ["near", "near", "far", "far"] == [opening.provider for opening in gate.books.openings]
    assert [1, 1, 1, 1] == [opening.number for opening in gate.books.openings]


async def test_a_target_has_room_again_with_time(gate):
    await asked(gate, "two", calls=3)
    gate.clock.advance(30)

    assert ["near", "far"] == await asked(gate, "two", calls=2)


async def test_a_day_is_a_limit_too(gate):
    assert ["near", "near", "far"] == await asked(gate, "day", calls=3)
    gate.clock.advance(3600)
    assert ["far"] == await asked(gate, "day", calls=1)
    gate.clock.advance(12 * 3600)
    assert ["near"] == await asked(gate, "day", calls=1)


async def test_with_no_target_left_the_caller_is_told_when_to_come_back(gate):
    """Of the waits the shortest; the limits of the target are no business of the headers."""
    assert ["near", "far", "far", "far", "far"] == await asked(gate, "waits", calls=5)

    with pytest.raises(RateLimitExceeded) as caught:
        await gate.embed("waits")

    assert 15 == pytest.approx(caught.value.retry_after_s)
    assert "target:far/w2/rpm" == caught.value.limit_source
    assert caught.value.standing is None
    assert 5 == len(gate.books.openings)


async def test_a_call_that_nobody_had_room_for_costs_its_caller_nothing(gate):
    """Not even one of its own requests, which is what it is told."""
    assert ["near"] == await asked(gate, "own", calls=1)
    for _ in range(3):
        with pytest.raises(RateLimitExceeded, match="target:near/o") as caught:
            await gate.embed("own")
        assert (2, 1) == (
            caught.value.standing.limit_requests,
            caught.value.standing.remaining_requests,
        )
    gate.clock.advance(60)
    assert ["near"] == await asked(gate, "own", calls=1)


async def test_when_all_are_full_the_way_for_limited_rates_is_taken(gate):
    assert ["near", "far", "far"] == await asked(gate, "other_way", calls=3)


async def test_a_full_target_beside_a_failing_one(gate):
    """Both are told; the failure is an attempt, the full target is none."""
    await gate.embed("both")

    with pytest.raises(ChainFailed) as caught:
        await gate.embed("both")

    assert ("all_targets_failed", ["down"]) == (
        caught.value.code,
        [attempt.provider for attempt in caught.value.attempts],
    )
    assert "target:near/b" in caught.value.message


async def test_each_call_of_a_retry_counts(gate):
    """Two tries and the target is full: the third goes elsewhere."""
    answer = await gate.embed("again")

    assert ["down", "down", "far"] == [attempt.provider for attempt in answer.attempts]


async def test_a_target_that_was_not_asked_keeps_its_room(gate):
    for _ in range(3):
        answer = await gate.embed("unasked")
        assert ["chat_only", "far"] == [attempt.provider for attempt in answer.attempts]


async def test_tokens_are_settled_to_those_used(gate):
    """Each call takes some 4,100 at first and uses a dozen; two at once leave no room."""
    for _ in range(5):
        ended = await stream(gate, "tokens")
        assert [] != [piece async for piece in ended]
    open_streams = [await stream(gate, "tokens") for _ in range(2)]
    with pytest.raises(RateLimitExceeded, match="9000 tokens per minute"):
        await stream(gate, "tokens")
    for one in open_streams:
        await one.aclose()


async def test_a_slot_is_free_again_when_the_answer_is_whole_and_when_its_caller_goes(gate):
    assert ["near"] * 3 == await asked(gate, "slots", calls=3)
    open_stream = await stream(gate, "slots")
    with pytest.raises(RateLimitExceeded, match="concurrent calls for target:near/s"):
        await gate.embed("slots")

    await open_stream.aclose()

    assert ["near"] == await asked(gate, "slots", calls=1)
    ended = await stream(gate, "slots")
    assert [] != [piece async for piece in ended]
    assert ["near"] == await asked(gate, "slots", calls=1)


@pytest.mark.parametrize("error", [StoreUnavailable("away"), asyncio.CancelledError()])
async def test_a_call_that_never_reached_its_target_gives_the_slot_back(gate, error):
    class Shut:
        async def open(self, _opening):
            raise error

    books, gate.books = gate.books, Shut()
    with pytest.raises(type(error)):
        await gate.embed("slots")
    gate.books = books

    assert ["near"] == await asked(gate, "slots", calls=1)


async def test_the_names_of_a_wildcard_share_its_targets_limits(gate):
    await gate.embed("w/one")

    with pytest.raises(RateLimitExceeded):
        await gate.embed("w/two")


def test_routes_without_limits_of_targets_ask_nothing_of_the_limiter(gate):
    limits = {
        name: [step.limits for step in plan.steps] for name, plan in gate.catalog.plans.items()
    }

    assert [None] == limits["free"]
    assert Limits(rpm=2) == limits["two"][0].limits
    assert limits["two"][1] is None
