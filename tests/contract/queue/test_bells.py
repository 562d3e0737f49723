"""The doorbell, whatever broker it hangs on: rings arrive, and nobody ever waits for it."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from shared.queue.silent import SilentBell
from shared.queue.wiring import broker_answers, consuming_broker, open_bell
from tests.contract.queue.conftest import Broker
from tests.edge.workers.makers import until
from workers.actors import listen

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def listening(url: str, heard: Callable[[str], None]) -> AsyncIterator[None]:
    listener = listen(url, asyncio.get_running_loop(), heard)
    try:
        yield
    finally:
        await listener.aclose()


async def test_without_a_broker_the_bell_is_silent():
    bell = open_bell(None)

    bell.ring("jobs:default")

    await bell.aclose()
    assert isinstance(bell, SilentBell)


async def test_a_ring_reaches_the_listener(broker: Broker):
    heard: asyncio.Queue[str] = asyncio.Queue()
    bell = open_bell(broker.url)
    async with listening(broker.url, heard.put_nowait):
        for topic in ("jobs:default", "deliveries"):
            bell.ring(topic)
            async with asyncio.timeout(20):
                assert topic == await heard.get()
    await bell.aclose()


async def test_many_rings_are_few_messages_and_the_last_is_among_them(broker: Broker):
    bell = open_bell(broker.url)
    for _ in range(1000):
        bell.ring("jobs:default")
        bell.ring("deliveries")
    await bell.aclose()

    async def sent():
        return await asyncio.to_thread(broker.waiting) >= 2

    await until(sent)
    assert broker.waiting() <= 20


async def test_a_topic_nobody_knows_is_ignored(broker: Broker):
    heard: asyncio.Queue[str] = asyncio.Queue()
    bell = open_bell(broker.url)
    async with listening(broker.url, heard.put_nowait):
        bell.ring("a topic of another version")
        bell.ring("deliveries")
        async with asyncio.timeout(20):
            assert "deliveries" == await heard.get()
    await bell.aclose()


@pytest.mark.parametrize("mode", ["refuse", "reset", "hang"])
async def test_ringing_takes_no_time_and_piles_nothing_up(broker: Broker, mode):
    """In trouble too: one message per topic waits, not one per ring, and stopping is quick."""
    broker.proxy.become(mode)
    bell = open_bell(broker.url)
    threads = threading.active_count()
    began_s = time.monotonic()

    for _ in range(10_000):
        bell.ring("jobs:default")

    assert time.monotonic() - began_s < 2.0
    assert threading.active_count() <= threads + 1  # a library may resolve a name in one
    async with asyncio.timeout(5):
        await bell.aclose()


async def test_listener_and_bell_outlive_the_broker(broker: Broker):
    """Away at the start, there, away again, back and empty: no restart of ours."""
    heard: set[str] = set()
    bell = open_bell(broker.url)

    async def hears(topic: str) -> bool:
        bell.ring(topic)
        await asyncio.sleep(0.1)
        return topic in heard

    broker.proxy.become("refuse")
    async with listening(broker.url, heard.add):
        assert not await hears("deliveries")
        broker.proxy.become("pass")
        await until(lambda: hears("deliveries"), within_s=40)

        broker.proxy.become("refuse")
        broker.forget()
        assert not await hears("jobs:default")
        broker.proxy.become("pass")
        await until(lambda: hears("jobs:default"), within_s=40)
    await bell.aclose()


def test_whether_it_answers_is_told_in_bounded_time(broker: Broker):
    told = {}
    began_s = time.monotonic()
    for mode in ("pass", "refuse", "hang", "pass"):
        broker.proxy.become(mode)
        told.setdefault(mode, []).append(broker_answers(broker.url))

    assert {"pass": [True, True], "refuse": [False], "hang": [False]} == told
    assert time.monotonic() - began_s < 6.0


def test_the_broker_has_nothing_that_loses_or_doubles_work(broker: Broker):
    """Retries, time limits and the like are SQL state here."""
    opened = consuming_broker(broker.url)

    assert ["CurrentMessage", "Callbacks"] == [type(one).__name__ for one in opened.middleware]
    opened.close()
