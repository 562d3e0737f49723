"""What every cache does, wherever it keeps its answers."""

import asyncio

import pytest

from shared.cache.entry import Entry
from tests.contract.cache.answers import at, entry, found, kept
from tests.contract.cache.conftest import MOST_ENTRY_BYTES

pytestmark = pytest.mark.anyio


async def test_what_is_kept_is_found_whole(opens):
    async with opens() as cache:
        assert await found(cache, at()) is None
        await kept(cache, at())

        looked = await cache.look(at())

    assert entry() == looked.entry
    assert 0 <= looked.age_s < 5


async def test_an_answer_is_found_at_its_address_only(opens):
    async with opens() as cache:
        await kept(cache, at("d1"))

        assert await found(cache, at("d2")) is None


async def test_an_answer_has_its_time(opens):
    async with opens(ttl_s=0.2) as cache:
        await kept(cache, at())
        assert await found(cache, at()) is not None
        await asyncio.sleep(0.25)

        assert await found(cache, at()) is None


async def test_what_is_too_large_is_not_kept(opens):
    async with opens() as cache:
        await kept(cache, at(), entry(b"x" * MOST_ENTRY_BYTES))

        assert await found(cache, at()) is None


async def test_the_newest_answer_counts(opens):
    async with opens() as cache:
        await kept(cache, at(), entry(b"old"))
        await kept(cache, at(), entry(b"new"))

        assert entry(b"new") == await found(cache, at())


@pytest.mark.parametrize(
    ("scope", "left"),
    [
        ({"tenant": None, "model": None}, set()),
        ({"tenant": "acme", "model": None}, {"d3"}),
        ({"tenant": None, "model": "gpt"}, {"d2"}),
        ({"tenant": "acme", "model": "gpt"}, {"d2", "d3"}),
        ({"tenant": "none", "model": None}, {"d1", "d2", "d3"}),
    ],
)
async def test_answers_are_forgotten_by_tenant_and_model(opens, scope, left):
    addresses = [at("d1"), at("d2", model="other"), at("d3", tenant="other")]
    async with opens() as cache:
        for address in addresses:
            await kept(cache, address)

        forgotten = await cache.forget(**scope)

        assert 3 - len(left) == forgotten
        after = {one.digest for one in addresses if await found(cache, one) is not None}
        assert left == after


async def test_what_was_asked_before_forgetting_is_not_kept_after_it(opens):
    async with opens() as cache:
        looked = await cache.look(at())
        await cache.forget(tenant="acme", model=None)
        cache.keep(at(), entry(), looked.mark)

        assert await found(cache, at()) is None
        await kept(cache, at())
        assert isinstance(await found(cache, at()), Entry)


async def test_what_one_process_is_told_to_forget_all_forget(opens):
    async with opens() as first, opens() as second:
        await kept(first, at())
        await kept(second, at())
        looked = await second.look(at("d2"))

        await first.forget(tenant="acme", model=None)
        second.keep(at("d2"), entry(), looked.mark)

        assert [None, None] == [await found(second, at("d1")), await found(second, at("d2"))]
        await kept(second, at())
        assert await found(second, at()) is not None
