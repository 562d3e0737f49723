"""The actor that hears rings, and how patiently Redis is asked. Rings: tests/contract/queue."""

import asyncio
import inspect

import pytest
from dramatiq.brokers.stub import StubBroker

from shared.queue.redis import build_broker, build_ringing_broker
from shared.queue.tasks import TASKS
from workers.actors import Listener, declare_ring

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
