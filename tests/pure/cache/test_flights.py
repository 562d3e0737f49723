"""One question at a time."""

import asyncio

import pytest

from shared.cache.flights import Flights, Landed, Lead
from shared.errors import ChainFailed
from tests.contract.cache.answers import entry

pytestmark = pytest.mark.anyio


async def waiting(flights, count):
    """Start calls that wait for an answer."""
    tasks = [asyncio.create_task(flights.join("d")) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


@pytest.mark.parametrize(
    "landed",
    [Landed(entry=entry()), Landed(error=ChainFailed("overloaded", "no", attempts=())), Landed()],
)
async def test_all_that_wait_get_what_it_came_to(landed):
    flights = Flights()
    lead = await flights.join("d")
    tasks = await waiting(flights, 5)

    lead.land(landed.entry, landed.error)

    assert [landed] * 5 == await asyncio.gather(*tasks)
    assert 0 == len(flights)


async def test_after_giving_up_one_of_them_leads_and_the_others_wait_on():
    flights = Flights()
    lead = await flights.join("d")
    tasks = await waiting(flights, 3)

    lead.give_up()
    await asyncio.sleep(0.01)
    done = [task for task in tasks if task.done()]
    assert 1 == len(done)
    following = done[0].result()
    assert isinstance(following, Lead)
    following.land(entry())

    others = [await task for task in tasks if task is not done[0]]
    assert [Landed(entry=entry())] * 2 == others


async def test_one_who_leaves_takes_nothing_from_the_others():
    flights = Flights()
    lead = await flights.join("d")
    first, second = await waiting(flights, 2)

    first.cancel()
    await asyncio.sleep(0)
    lead.land(entry())

    assert Landed(entry=entry()) == await second


async def test_an_end_counts_once():
    flights = Flights()
    lead = await flights.join("d")
    lead.land(entry())
    next_lead = await flights.join("d")

    lead.give_up()

    assert isinstance(next_lead, Lead)
    assert 1 == len(flights)


async def test_different_questions_do_not_wait_for_each_other():
    flights = Flights()
    await flights.join("a")

    assert isinstance(await flights.join("b"), Lead)
