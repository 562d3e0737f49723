"""Several limiters on one Redis."""

import asyncio
import json
import os
import ssl
import sys
import time

import pytest
import redis

from shared.errors import RateLimitExceeded
from tests.contract.limits.calls import admitted, eventually, scope, take
from tests.contract.limits.faults import command, wire_to

LENGTH_S = float(os.environ.get("LIMITS_LENGTH_S", "2"))
"""How long the callers go on; 30 for the full length."""


async def test_a_hundred_callers_of_two_processes_get_what_one_would(redis_server, opens):
    """Burst + rate x T within 1 %."""
    bound, key = scope(rpm=6000), scope("key:ci", rpm=60_000, tpm=9_000_000, concurrency=90)

    async def ask(limiter):
        passed = 0
        while time.monotonic() < began_s + LENGTH_S:
            try:
                taken = await take(limiter, bound, key, tokens=50)
            except RateLimitExceeded:
                await asyncio.sleep(0.02)
            else:
                passed += 1
                limiter.give_back(taken, used_tokens=20)
        return passed

    async with (
        opens(redis_server.url, owner="one") as one,
        opens(redis_server.url, owner="two") as two,
    ):
        began_s = time.monotonic()
        passed = await asyncio.gather(*(ask((one, two)[number % 2]) for number in range(100)))
        assert not one.away
        assert not two.away

    assert 6000 + 100 * LENGTH_S == pytest.approx(sum(passed), rel=0.01)


async def test_two_hundred_callers_of_four_processes_get_what_one_would(redis_server):
    """Burst + rate x T within 1 %, over real processes."""

    async def start(number: int) -> asyncio.subprocess.Process:
        words = (redis_server.url, f"process-{number}", "50", str(LENGTH_S))
        pipes = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.contract.limits.asking", *words, **pipes
        )
        assert b"ready\n" == await process.stdout.readline()
        return process

    processes = await asyncio.gather(*(start(number) for number in range(4)))
    said = await asyncio.gather(*(process.communicate(b"") for process in processes))
    told = [json.loads(output) for output, _ in said]

    length_s = max(last_s for *_, last_s in told) - min(began_s for _, began_s, _ in told)
    expected = 6000 + 100 * length_s
    assert expected == pytest.approx(sum(admitted for admitted, *_ in told), rel=0.01)


async def test_slots_are_one_count(redis_server, opens):
    bound = scope(concurrency=5)
    async with (
        opens(redis_server.url, owner="one") as one,
        opens(redis_server.url, owner="two") as two,
    ):
        running = await admitted(one, bound, calls=3)
        assert 2 == len(await admitted(two, bound, calls=9))

        one.give_back(running[0], used_tokens=0)
        await eventually(lambda: not one._owed)

        assert 1 == len(await admitted(two, bound, calls=9))


async def test_a_process_that_ends_leaves_nothing_behind(redis_server, opens):
    """Slots of calls that it still had, corrections not yet sent, its own name."""
    bound = scope(concurrency=2, tpd=1000)
    async with opens(redis_server.url, owner="one") as one:
        running = await admitted(one, bound, calls=2, tokens=100)
        one.give_back(running[0], used_tokens=10)
    async with opens(redis_server.url, owner="two") as two:
        assert 890 == (await take(two, bound, tokens=0)).standing.remaining_tokens
        with redis.Redis.from_url(redis_server.url) as client:
            assert [b"two"] == client.zrange("sluiceway:limits:processes", 0, -1)


async def test_slots_of_a_dead_process_come_back(redis_server, opens):
    """Its leases are 15 s; as long as it lives it renews them."""
    bound = scope(concurrency=2)
    async with opens(redis_server.url, owner="one") as one:
        taken = await take(one, bound, slot_s=600)
        with redis.Redis.from_url(redis_server.url) as client:
            slots = client.zrange("sluiceway:limits:slots:tenant:acme", 0, -1, withscores=True)
            now_s, _ = client.time()

    assert [taken.slot.encode()] == [slot for slot, _ in slots]
    assert 16 > slots[0][1] - now_s


async def test_slots_that_redis_lost_are_told_again(own_redis, opens):
    bound = scope(concurrency=5)
    async with (
        opens(own_redis.url, owner="one") as one,
        opens(own_redis.url, owner="two") as two,
    ):
        await admitted(one, bound, calls=3)
        command(own_redis, "FLUSHALL")
        command(own_redis, "CLIENT", "KILL", "TYPE", "normal")
        await take(one, scope(rpd=5))
        await take(two, scope(rpd=5))
        await eventually(lambda: not one.away and not two.away)

        assert 2 == len(await admitted(two, bound, calls=9))


async def test_a_bucket_that_is_full_again_leaves_redis(own_redis, opens):
    async with opens(own_redis.url) as limiter:
        await take(limiter, scope(rpm=600, tpm=60_000), tokens=1000)
        ttl_ms = command(own_redis, "PTTL", "sluiceway:limits:levels:tenant:acme")

    assert 1900 <= ttl_ms <= 2001


# URLs


async def is_counting(url, opens):
    async with opens(url) as limiter:
        return not limiter.away and 3 == len(await admitted(limiter, scope(rpd=3), calls=9))


async def test_a_password_and_a_database(own_redis, opens):
    async with wire_to(own_redis) as wire:
        address = f"127.0.0.1:{wire.port}"
        command(own_redis, "CONFIG", "SET", "requirepass", "p@ss")

        assert not await is_counting(f"redis://:wrong@{address}/3", opens)
        assert await is_counting(f"redis://:p%40ss@{address}/3", opens)
        assert await is_counting(f"unix://:p%40ss@{own_redis.socket}?db=4", opens)
        with redis.Redis.from_url(f"{own_redis.url}?password=p%40ss") as client:
            assert {"db3", "db4"} == set(client.info("keyspace"))


async def test_a_user(own_redis, opens):
    command(own_redis, "ACL", "SETUSER", "gate", "on", ">pass", "~sluiceway:*", "+@all")
    async with wire_to(own_redis) as wire:
        assert await is_counting(f"redis://gate:pass@127.0.0.1:{wire.port}", opens)


async def test_tls(own_redis, opens, certificate):
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate)
    async with wire_to(own_redis, tls=server) as wire:
        address = f"rediss://127.0.0.1:{wire.port}/1"

        assert not await is_counting(address, opens)
        assert await is_counting(f"{address}?ssl_ca_certs={certificate}", opens)
