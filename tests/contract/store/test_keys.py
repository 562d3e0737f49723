"""Tenants and keys."""

import pytest
from sqlalchemy.exc import IntegrityError

from shared.store.keys import (
    active_keys,
    ensure_tenant,
    insert_key,
    key_by_hash,
    list_keys,
    revoke_key,
    tenant,
)
from shared.store.records import TenantRow
from tests.contract.store.makers import HOUR, SECOND, START, make_key


async def test_the_first_secret_of_a_tenant_stays(store):
    async with store.write() as tx:
        first = await ensure_tenant(tx, "acme", "first", START)
        second = await ensure_tenant(tx, "acme", "second", START + HOUR)
        found = await tenant(tx, "acme")
        other = await tenant(tx, "other")

    assert TenantRow(id="acme", webhook_secret="first", created_at=START) == first
    assert first == second == found
    assert other is None


async def test_a_key_comes_back_as_it_went_in(store):
    key = make_key(scopes=("provider_models", "admin"), expires_at=START + HOUR)
    async with store.write() as tx:
        await ensure_tenant(tx, "acme", "s", START)
        await insert_key(tx, key)

    async with store.read() as tx:
        assert key == await key_by_hash(tx, key.key_hash)
        assert await key_by_hash(tx, "other") is None


async def test_a_key_is_revoked_once(store):
    async with store.write() as tx:
        await ensure_tenant(tx, "acme", "s", START)
        await insert_key(tx, make_key())
        assert await revoke_key(tx, "key_1", START + SECOND)
        assert not await revoke_key(tx, "key_1", START + HOUR)
        assert not await revoke_key(tx, "key_2", START)

    async with store.read() as tx:
        found = await key_by_hash(tx, "hash_of_key_1")
        assert found is not None
        assert START + SECOND == found.revoked_at


async def test_lists(store):
    async with store.write() as tx:
        await ensure_tenant(tx, "acme", "s", START)
        await ensure_tenant(tx, "other", "s", START)
        await insert_key(tx, make_key("key_3", created_at=START + SECOND))
        await insert_key(tx, make_key("key_2"))
        await insert_key(tx, make_key("key_1", tenant_id="other"))
        await revoke_key(tx, "key_2", START)

    async with store.read() as tx:
        assert ["key_2", "key_3"] == [key.id for key in await list_keys(tx, "acme")]
        assert ["key_1", "key_2", "key_3"] == [key.id for key in await list_keys(tx, None)]
        assert ["key_1", "key_3"] == [key.id for key in await active_keys(tx)]


@pytest.mark.parametrize(
    "second",
    [make_key("key_2", key_hash="hash_of_key_1"), make_key("key_2", tenant_id="nobody")],
    ids=["same hash", "no tenant"],
)
async def test_keys_that_cannot_be(store, second):
    async with store.write() as tx:
        await ensure_tenant(tx, "acme", "s", START)
        await insert_key(tx, make_key())
        with pytest.raises(IntegrityError):
            await insert_key(tx, second)
