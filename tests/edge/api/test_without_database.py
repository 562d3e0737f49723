"""Keys while the database is away: taken as last known, or refused, as the policy says."""

import pytest

from api.auth import STALE_S, KeyTable
from shared.config.conduct import DatabaseDownPolicy, Policies
from shared.config.model import Config, KeyConfig, TenantConfig
from shared.errors import InvalidApiKey, StoreUnavailable
from shared.store.engine import Store, open_store
from tests.fakes.clock import FakeClock

pytestmark = pytest.mark.anyio

KEY = "sk-policy-0123456789abcdef"


@pytest.fixture
async def closed_store(sqlite_url: str) -> Store:
    """A database that is away."""
    store = await open_store(sqlite_url)
    await store.close()
    return store


def table(auth: str, store: Store, clock: FakeClock) -> KeyTable:
    config = Config(
        tenants=(TenantConfig(id="acme", keys=(KeyConfig(name="ci", key=KEY),)),),
        policies=Policies(database_down=DatabaseDownPolicy(auth=auth)),
    )
    return KeyTable(config, "s" * 32, None, store, clock)


async def test_known_keys_serve_on(closed_store: Store):
    """`cached`: for as long as it takes."""
    clock = FakeClock()
    keys = table("cached", closed_store, clock)
    clock.advance(86_400)

    assert "acme" == (await keys.principal(KEY)).tenant_id


async def test_no_key_is_taken_once_the_table_is_old(closed_store: Store):
    """`deny`: also not one of the file; and a caller without a key is still told that."""
    clock = FakeClock()
    keys = table("deny", closed_store, clock)
    clock.advance(STALE_S)
    assert "acme" == (await keys.principal(KEY)).tenant_id
    with pytest.raises(StoreUnavailable):
        await keys.refresh()
    clock.advance(0.1)

    with pytest.raises(StoreUnavailable, match="deny"):
        await keys.principal(KEY)
    with pytest.raises(InvalidApiKey):
        await keys.principal(None)


async def test_keys_are_taken_again_after_a_refresh(sqlite_url: str):
    clock = FakeClock()
    store = await open_store(sqlite_url)
    keys = table("deny", store, clock)
    clock.advance(10 * STALE_S)
    with pytest.raises(StoreUnavailable):
        await keys.principal(KEY)

    await keys.refresh()

    assert "acme" == (await keys.principal(KEY)).tenant_id
    await store.close()
