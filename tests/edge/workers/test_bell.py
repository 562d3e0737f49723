"""The doorbell over a real Redis: rings arrive, however Redis behaves nobody waits for it."""

import asyncio
import inspect
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
from dramatiq.brokers.stub import StubBroker

from shared.queue.redis import (
    NAMESPACE,
    RedisBell,
    build_broker,
    build_ringing_broker,
    ring_message,
)
from shared.queue.tasks import QUEUE, TASKS
from tests.edge.workers.makers import until
from tests.services import redis_program
from workers.actors import Listener, declare_ring, listen

pytestmark = pytest.mark.anyio


async def test_every_task_has_exactly_one_actor_with_its_parameters():
    """API and workers cannot import each other; this is what keeps them in step."""
    broker = StubBroker(middleware=[])

    declare_ring(broker, asyncio.get_running_loop(), lambda _: None)

    declared = {
        (actor.actor_name, actor.queue_name, tuple(inspect.signature(actor.fn).parameters))
        for actor in broker.actors.values()
    }
    assert {(task.actor, task.queue, task.parameters) for task in TASKS} == declared
    assert len(TASKS) == len(broker.actors)


def test_the_broker_has_nothing_that_loses_or_doubles_work():
    """Retries, time limits and the like are SQL state here."""
    broker = build_broker("redis://127.0.0.1:1")

    names = [type(one).__name__ for one in broker.middleware]

    assert ["CurrentMessage", "Callbacks"] == names
    assert 8 == Listener(broker)._worker.queue_prefetch


def test_ringing_gives_up_soon():
    pool = build_ringing_broker("redis://127.0.0.1:1").client.connection_pool

    assert pool.connection_kwargs["socket_timeout"] <= 0.5
    assert pool.connection_kwargs["socket_connect_timeout"] <= 0.5
    assert pool.connection_kwargs["retry"].get_retries() == 0


async def test_a_ring_reaches_the_listener(redis_server):
    heard = asyncio.Queue()
    listener = listen(redis_server.url, asyncio.get_running_loop(), heard.put_nowait)
    bell = RedisBell(build_ringing_broker(redis_server.url))

    bell.ring("jobs:default")
    async with asyncio.timeout(10):
        assert "jobs:default" == await heard.get()

    await bell.aclose()
    await listener.aclose()


async def test_many_rings_are_few_messages_and_the_last_is_among_them(redis_server):
    bell = RedisBell(build_ringing_broker(redis_server.url))
    for _ in range(1000):
        bell.ring("jobs:default")
        bell.ring("deliveries")
    await bell.aclose()

    with redis.Redis.from_url(redis_server.url) as client:
        waiting = client.llen(f"{NAMESPACE}:{QUEUE}")
    assert 2 <= waiting <= 20


async def test_a_topic_nobody_knows_is_ignored(redis_server):
    heard = asyncio.Queue()
    listener = listen(redis_server.url, asyncio.get_running_loop(), heard.put_nowait)
    broker = build_ringing_broker(redis_server.url)
    for topic in ("of another version", "deliveries"):
        broker.enqueue(ring_message(topic))

    async with asyncio.timeout(10):
        assert "deliveries" == await heard.get()

    broker.close()
    await listener.aclose()


async def test_without_redis_ringing_takes_no_time():
    bell = RedisBell(build_ringing_broker("redis://127.0.0.1:1"))
    began_s = time.monotonic()

    for _ in range(10_000):
        bell.ring("jobs:default")

    assert time.monotonic() - began_s < 1.0
    await bell.aclose()


async def test_rings_that_hang_do_not_pile_up():
    """A Redis that accepts and never answers: one message per topic waits, not one per ring."""
    with socket.create_server(("127.0.0.1", 0)) as hung:
        bell = RedisBell(build_ringing_broker(f"redis://127.0.0.1:{hung.getsockname()[1]}"))
        before = threading.active_count()

        for _ in range(1000):
            bell.ring("jobs:default")

        assert before == threading.active_count()
        async with asyncio.timeout(5):
            await bell.aclose()


@contextmanager
def redis_at(place: Path) -> Iterator[None]:
    """A Redis at that place for the length of the block, killed at its end."""
    process = subprocess.Popen(
        [redis_program(), "--port", "0", "--unixsocket", str(place), "--save", ""],
        cwd=place.parent,
        stdout=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.kill()
        process.wait()


async def test_listener_and_bell_outlive_redis(tmp_path_factory):
    """Away at the start, there, emptied, killed, back at the same place: no restart of ours."""
    heard = []
    loop = asyncio.get_running_loop()
    place = tmp_path_factory.mktemp("r") / "s"
    url = f"unix://{place}"
    listener = listen(url, loop, heard.append)
    bell = RedisBell(build_ringing_broker(url))
    bell.ring("jobs:default")

    async def rings_again():
        bell.ring("deliveries")
        await asyncio.sleep(0.2)
        return "deliveries" in heard

    for _ in range(2):
        heard.clear()
        with redis_at(place):
            await until(rings_again, within_s=30.0)
            with redis.Redis.from_url(url) as client:
                client.flushall()
            heard.clear()
            await until(rings_again, within_s=30.0)

    async with asyncio.timeout(15):
        await bell.aclose()
        await listener.aclose()
