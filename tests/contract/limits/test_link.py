"""One command after another over the connection to Redis, each with its own patience."""

import asyncio
import time

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.limits.batch import Batch
from shared.limits.redis import BY_NAME, SCRIPT_NAME, RedisAway, RedisLink, packed, packed_call
from tests.contract.limits.faults import frozen

NOT_AFTER_S = 0.0
SOON_S, LATER_S = 0.05, 30.0
LONGEST_S = 10.0
"""Far from both, for a machine that is busy with other tests."""


@pytest.fixture
async def link(own_redis):
    opened = RedisLink(own_redis.url)
    await opened.connect("unknown")
    yield opened
    await opened.aclose()


async def run(link, patience_s):
    batch = Batch("one", 1, {})
    return await link.run(*batch.keys(), batch.encode(NOT_AFTER_S), patience_s=patience_s)


async def test_a_command_is_not_given_the_time_of_the_one_before(own_redis, link):
    await run(link, LATER_S)
    began_s = time.monotonic()
    with frozen(own_redis), pytest.raises(RedisAway, match="in time"):
        await run(link, SOON_S)

    assert time.monotonic() - began_s < LONGEST_S


async def test_the_end_of_one_command_s_time_is_not_the_next_one_s(own_redis, link):
    await run(link, SOON_S)
    with frozen(own_redis):
        waiting = asyncio.create_task(run(link, LATER_S))
        await asyncio.sleep(4 * SOON_S)
        assert not waiting.done()

    assert isinstance(await waiting, bytes)


async def test_a_time_that_ends_between_commands_is_nobody_s(own_redis, link):
    await run(link, SOON_S)
    await asyncio.sleep(2 * SOON_S)
    with frozen(own_redis), pytest.raises(RedisAway, match="in time"):
        await run(link, SOON_S)


@given(keys=st.lists(st.text()), argument=st.binary())
def test_a_command_is_packed_as_the_library_does(keys, argument):
    words = ("EVALSHA", SCRIPT_NAME, len(keys), *keys, argument)
    in_one = b"".join(map(packed, keys))

    assert hiredis.pack_command(words) == packed_call(BY_NAME, len(keys), in_one, argument)
