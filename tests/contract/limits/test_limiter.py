"""What every limiter promises, in memory and in Redis."""

import asyncio
import random

import pytest

from shared.clock import SystemClock
from shared.errors import RateLimitExceeded
from shared.limits.limiter import Standing
from shared.limits.local import LocalLimiter
from tests.contract.limits.calls import SLOTS, admitted, eventually, scope, take


async def test_the_burst_passes_and_no_more(limiter):
    assert 10 == len(await admitted(limiter, scope(rpd=10), calls=30))


async def test_a_call_without_limits_passes(limiter):
    taken = await take(limiter)

    assert Standing() == taken.standing
    limiter.give_back(taken, used_tokens=5)


async def test_the_standing_counts_down(limiter):
    """What the headers say after each of two calls."""
    bound = scope(rpd=100, tpd=86_400)

    standings = [(await take(limiter, bound, tokens=1000)).standing for _ in range(2)]

    assert [(100, 99, 86_400, 85_400), (100, 98, 86_400, 84_400)] == [
        (one.limit_requests, one.remaining_requests, one.limit_tokens, one.remaining_tokens)
        for one in standings
    ]
    assert [1000, 2000] == pytest.approx([one.reset_tokens_s for one in standings], abs=1)


async def test_a_refusal_says_when_and_what_is_left(limiter):
    bound = scope(rpm=60, tpm=600)
    await take(limiter, bound, tokens=600)

    with pytest.raises(RateLimitExceeded) as caught:
        await take(limiter, bound, tokens=100)

    assert 10 == pytest.approx(caught.value.retry_after_s, abs=0.5)
    assert (59, 600) == (
        caught.value.standing.remaining_requests,
        caught.value.standing.limit_tokens,
    )


async def test_a_refused_call_takes_nothing_from_anyone(limiter):
    """The tenant has room, the key has not: the tenant's room is untouched."""
    tenant, key = scope(rpd=10, tpd=1000, concurrency=10), scope("key:ci", rpd=1)
    await take(limiter, tenant, key, tokens=10)

    assert [] == await admitted(limiter, tenant, key, calls=20, tokens=10)
    assert 9 == len(await admitted(limiter, tenant, calls=20))


async def test_the_named_wait_is_enough(limiter):
    bound = scope(rpm=1200)

    async def take_all():
        for _ in range(2000):  # while they are made, the rate admits more of them
            await take(limiter, bound)

    with pytest.raises(RateLimitExceeded) as caught:
        await take_all()
    await asyncio.sleep(caught.value.retry_after_s + 0.001)

    assert await take(limiter, bound)


async def test_tokens_are_corrected_to_those_used(limiter):
    bound = scope(tpd=1000)
    first = await take(limiter, bound, tokens=900)
    limiter.give_back(first, used_tokens=100)

    assert 100 == (await take(limiter, bound, tokens=800)).standing.remaining_tokens


async def test_more_tokens_used_than_estimated_are_taken_afterwards(limiter):
    bound = scope(tpd=1000)
    first = await take(limiter, bound, tokens=100)
    limiter.give_back(first, used_tokens=950)

    assert [] == await admitted(limiter, bound, calls=1, tokens=100)
    assert 0 == (await take(limiter, bound, tokens=50)).standing.remaining_tokens


async def test_giving_back_never_fills_a_bucket_above_its_figure(limiter):
    """A minute's 6,000 tokens are back by themselves long before the call that took them ends."""
    bound = scope(tpm=6_000_000)
    first = await take(limiter, bound, tokens=5000)
    await asyncio.sleep(0.06)
    limiter.give_back(first, used_tokens=0)

    assert 6_000_000 >= (await take(limiter, bound, tokens=0)).standing.remaining_tokens


async def test_only_the_first_end_of_a_call_counts(limiter):
    bound = scope(rpd=10, tpd=1000, concurrency=2)
    first = await take(limiter, bound, tokens=900)
    limiter.give_back(first, used_tokens=800)
    limiter.give_back(first, used_tokens=0)
    limiter.undo(first)

    left = (await take(limiter, bound, tokens=0)).standing
    assert (8, 200) == (left.remaining_requests, left.remaining_tokens)


async def test_an_undone_call_has_never_been(limiter):
    bound = scope(rpd=10, tpd=1000, concurrency=1)
    limiter.undo(await take(limiter, bound, tokens=900))

    left = (await take(limiter, bound, tokens=100)).standing
    assert (9, 900) == (left.remaining_requests, left.remaining_tokens)


async def test_a_call_larger_than_a_bucket_passes_a_full_one_and_leaves_a_debt(limiter):
    bound = scope(tpm=600)

    assert 0 == (await take(limiter, bound, tokens=6000)).standing.remaining_tokens
    with pytest.raises(RateLimitExceeded) as caught:
        await take(limiter, bound, tokens=600)
    assert 600 == pytest.approx(caught.value.retry_after_s, abs=1)


async def test_slots_bound_how_many_run_at_once(limiter):
    bound = scope(concurrency=3)
    running = await admitted(limiter, bound, calls=10)

    limiter.give_back(running[0], used_tokens=0)

    assert (3, 1) == (len(running), len(await admitted(limiter, bound, calls=10)))


async def test_a_slot_ends_by_itself(limiter):
    bound = scope(concurrency=1)
    await take(limiter, bound, slot_s=0.05)
    assert [] == await admitted(limiter, bound, calls=1)

    await asyncio.sleep(0.06)

    assert 1 == len(await admitted(limiter, bound, calls=3))


async def test_a_caller_that_goes_away_takes_nothing_with_it(limiter):
    """Cancelled at any moment of its admission."""
    bound = scope(rpd=1000, tpd=100_000, concurrency=1000)
    calls = [asyncio.create_task(take(limiter, bound, tokens=10)) for _ in range(50)]
    for number, call in enumerate(calls):
        if number % 10 == 0:
            await asyncio.sleep(0)
        call.cancel()
    ends = await asyncio.gather(*calls, return_exceptions=True)
    through = [end for end in ends if not isinstance(end, BaseException)]

    left = (await take(limiter, bound, tokens=0)).standing
    expected = (999 - len(through), 100_000 - 10 * len(through))
    assert expected == (left.remaining_requests, left.remaining_tokens)


async def test_redis_counts_as_memory_does(limiter):
    """Two hundred steps by chance, on rates that refill next to nothing meanwhile."""
    draw = random.Random(7)
    model = LocalLimiter(SystemClock())
    scopes = [
        scope("tenant:acme", rpd=150, tpd=40_000, concurrency=12),
        scope("key:a", tpd=9000),
        scope("key:b", rpd=30, concurrency=5),
        scope("user:joe", rpd=100, tpd=100),
    ]
    running = []
    for _ in range(200):
        if running and draw.random() < 0.4:
            mine, theirs = running.pop(draw.randrange(len(running)))
            used = draw.randrange(600)
            limiter.give_back(mine, used_tokens=used)
            model.give_back(theirs, used_tokens=used)
            continue
        bound = draw.sample(scopes, draw.randrange(1, 4))
        asked = {"tokens": draw.randrange(500), "slot": next(SLOTS), "slot_s": 60}
        mine, theirs = [
            (await asyncio.gather(one.take(bound, **asked), return_exceptions=True))[0]
            for one in (limiter, model)
        ]
        assert type(theirs) is type(mine)
        for name in ("remaining_requests", "remaining_tokens"):
            told = [getattr(one.standing, name) for one in (mine, theirs)]
            assert told[0] == pytest.approx(told[1], abs=1)
        if not isinstance(mine, RateLimitExceeded):
            running.append((mine, theirs))


async def test_limits_may_change_between_two_calls(limiter):
    """A raised limit is refilled at its new rate; a lowered one cuts what is left."""
    await take(limiter, scope(rpd=100))

    lowered = (await take(limiter, scope(rpd=10))).standing.remaining_requests
    raised = (await take(limiter, scope(rpd=1000, tpd=50))).standing

    assert (9, 8, 49) == (lowered, raised.remaining_requests, raised.remaining_tokens)


async def test_rates_are_met_exactly_under_demand(limiter):
    """Twenty callers that ask all the time for a second: burst + rate x T, within 1 %."""
    bound = scope(rpm=1_200)
    clock, passed, ended = SystemClock(), [0], []

    async def ask() -> None:
        while clock.monotonic() < began_s + 1.0:
            try:
                limiter.give_back(await take(limiter, bound), used_tokens=1)
            except RateLimitExceeded:
                await asyncio.sleep(0.004)
            else:
                passed[0] += 1
        ended.append(clock.monotonic())

    began_s = clock.monotonic()
    await asyncio.gather(*(ask() for _ in range(20)))
    await eventually(lambda: len(ended) == 20)

    assert 1_200 + 20 * (max(ended) - began_s) == pytest.approx(passed[0], rel=0.01)


@pytest.mark.parametrize(("calls", "fit"), [(7, 7), (8, 8), (9, 8), (30, 8)])
async def test_slots_of_calls_that_come_together(limiter, calls, fit):
    """Counted one by one, however many come at once and however close it gets."""
    bound = scope(f"tenant:{calls}", concurrency=8)
    taken = await admitted(limiter, bound, calls=calls)
    assert fit == len(taken)
    assert 8 - fit == len(await admitted(limiter, bound, calls=8))

    for one in taken[:3]:
        limiter.give_back(one, used_tokens=1)
    assert 3 == len(await admitted(limiter, bound, calls=5))


async def test_calls_of_different_scopes_that_come_together(limiter):
    """One scope has room for all who ask, the other has not: its refusals free the first."""
    wide, narrow = scope("tenant:wide", concurrency=20), scope("key:narrow", concurrency=2)
    taken = await admitted(limiter, wide, narrow, calls=10)

    assert 2 == len(taken)
    assert 18 == len(await admitted(limiter, wide, calls=30))
