"""A cache in Redis while that is gone, slow, full or full of rubbish, and afterwards."""

import asyncio
import random
import time

import pytest

from shared.cache.entry import CacheAway
from shared.cache.redis import _key
from shared.cache.wire import packed
from tests.contract.cache.answers import at, entry, eventually, found, kept
from tests.contract.cache.conftest import MOST_ENTRY_BYTES, redis_cache
from tests.contract.limits.faults import command, frozen, redis_at
from tests.services import folder

pytestmark = pytest.mark.anyio

# A look may take 0.1 s; the rest is for a machine that is busy with other tests.
LONGEST_S = 0.5


def is_back(cache):
    return cache._wire is not None


async def test_processes_share_their_answers(redis_server):
    async with redis_cache(redis_server.url) as first, redis_cache(redis_server.url) as second:
        await kept(first, at())

        assert entry() == await found(second, at())


async def test_nothing_is_looked_up_while_redis_is_away():
    with folder() as home:
        async with redis_cache(f"unix://{home}/redis.sock") as cache:
            assert await cache.look(at()) is None
            cache.keep(at(), entry(), ())
            with pytest.raises(CacheAway):
                await cache.forget(tenant=None, model=None)


async def test_a_redis_that_comes_back_is_used_again():
    with folder() as home:
        with redis_at(home) as server:
            opened = redis_cache(server.url)
            cache = await opened.__aenter__()
            await kept(cache, at())
        try:
            await eventually(lambda: not is_back(cache))
            assert await cache.look(at()) is None
            with redis_at(home):
                await eventually(lambda: is_back(cache))
                assert await found(cache, at()) is None  # it came back empty
                await kept(cache, at())
                assert await found(cache, at()) is not None
        finally:
            await opened.__aexit__(None, None, None)


async def test_a_redis_that_hangs_costs_one_look_and_no_more(own_redis):
    async with redis_cache(own_redis.url) as cache:
        with frozen(own_redis):
            began_s = time.monotonic()
            assert [None] * 20 == await asyncio.gather(*(cache.look(at()) for _ in range(20)))
            first_s = time.monotonic() - began_s
            began_s = time.monotonic()
            assert await cache.look(at()) is None
            later_s = time.monotonic() - began_s
        await eventually(lambda: is_back(cache))

        assert await found(cache, at()) is None
    assert first_s < LONGEST_S
    assert later_s < 0.05


async def test_an_answer_that_a_busy_loop_reads_late_is_one(redis_server):
    """Its time is over when what was asked is sent, at the end of the turn."""
    async with redis_cache(redis_server.url) as cache:
        wire, ping = cache._wire, packed("PING")

        answers = await asyncio.gather(*(wire.ask(ping, patience_s=0.0) for _ in range(20)))

        assert [[b"PONG"]] * 20 == answers
        await eventually(lambda: wire._timer is None)
        assert is_back(cache)


async def test_time_runs_for_the_oldest_question_and_then_for_the_next(own_redis):
    async with redis_cache(own_redis.url) as cache:
        wire, ping = cache._wire, packed("PING")
        assert [b"PONG"] == await wire.ask(ping, patience_s=0.0)
        with frozen(own_redis):
            slow, quick = wire.ask(ping), wire.ask(ping, patience_s=0.01)
            for [answer] in await asyncio.gather(slow, quick):
                assert isinstance(answer, CacheAway)


async def test_a_full_redis_is_read_on(own_redis):
    async with redis_cache(own_redis.url) as cache:
        await kept(cache, at("d1"))
        command(own_redis, "CONFIG", "SET", "maxmemory", "1")
        await kept(cache, at("d2"))

        assert entry() == await found(cache, at("d1"))
        assert await found(cache, at("d2")) is None


async def test_what_one_turn_keeps_is_sent_whatever_its_size(redis_server):
    """Large pieces leave at once, and what was told before them goes first."""
    bodies = {"d1": b"small", "d2": b"x" * (MOST_ENTRY_BYTES - 1000), "d3": b"small, too"}
    async with redis_cache(redis_server.url) as cache:
        looked = await cache.look(at())
        for digest, body in bodies.items():
            cache.keep(at(digest), entry(body), looked.mark)
        # Asked for in the same turn, and answered in the order of what is sent.
        answers = await asyncio.gather(*(found(cache, at(digest)) for digest in bodies))

    assert list(bodies.values()) == [answer.body for answer in answers]


async def test_what_was_kept_in_the_turn_of_the_close_is_there_afterwards(redis_server):
    async with redis_cache(redis_server.url) as cache:
        looked = await cache.look(at("late"))
        cache.keep(at("late"), entry(), looked.mark)

    async with redis_cache(redis_server.url) as cache:
        assert entry() == await found(cache, at("late"))


async def test_rubbish_is_no_answer(redis_server):
    """Another version may have kept it, or somebody else."""
    async with redis_cache(redis_server.url) as cache:
        command(redis_server, "SET", _key(at()), b"\xff\x00rubbish")

        assert await found(cache, at()) is None


async def test_answers_go_from_redis_as_well_when_they_are_forgotten(redis_server):
    """Nothing of a tenant is left there, however much of others lies around."""
    async with redis_cache(redis_server.url) as cache:
        for number in range(50):
            await kept(cache, at(f"d{number}", tenant="acme" if number % 2 else "other"))
        command(redis_server, "SET", "not:ours", "x")

        assert 25 == await cache.forget(tenant="acme", model=None)

    keys = command(redis_server, "KEYS", "*")
    assert 25 == sum(b":" in key for key in keys) - 2  # the marks and what is not ours


async def test_nobody_gets_anothers_answer_however_many_leave(redis_server):
    """Callers that leave in the middle of a look leave their answers behind, and nothing else."""
    draw = random.Random(7)
    foreign = 0
    async with redis_cache(redis_server.url) as cache:
        for number in range(20):
            await kept(cache, at(f"d{number}"), entry(b"%d" % number))

        async def look(number):
            nonlocal foreign
            looked = await cache.look(at(f"d{number}"))
            if looked is not None and looked.entry != entry(b"%d" % number):
                foreign += 1

        for _ in range(40):
            looks = [asyncio.create_task(look(draw.randrange(20))) for _ in range(25)]
            await asyncio.sleep(draw.random() / 1000)
            for task in looks:
                if draw.random() < 0.4:
                    task.cancel()
            await asyncio.gather(*looks, return_exceptions=True)
        assert is_back(cache)
    assert 0 == foreign
