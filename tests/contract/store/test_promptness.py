"""A caller's time limit holds also when PostgreSQL does not answer any more."""

import asyncio
import time
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from shared.store.engine import Tx, open_store
from tests.fakes.proxy import Proxy, running_proxy
from tests.services import PostgresServer

pytestmark = pytest.mark.anyio


@pytest.fixture
def proxy(postgres_server: PostgresServer) -> Iterator[Proxy]:
    with running_proxy(postgres_server.socket_dir / ".s.PGSQL.5432") as running:
        yield running


async def one(tx: Tx) -> int:
    return int((await tx.connection.execute(sa.select(1))).scalar_one())


@pytest.mark.parametrize("mode", ["hang", "delay"])
async def test_a_transaction_that_is_cut_off_ends_at_once(
    postgres_url: str, proxy: Proxy, mode: str
):
    """It does not wait for the server to confirm; the next one has a connection that works."""
    database = postgres_url.partition("@/")[2].partition("?")[0]
    store = await open_store(f"postgresql://postgres@127.0.0.1:{proxy.port}/{database}")
    async with store.write() as tx:
        assert 1 == await one(tx)
    started_s = time.monotonic()

    async def asked() -> None:
        async with asyncio.timeout(0.3), store.write() as tx:
            proxy.become(mode)
            await one(tx)

    with pytest.raises(TimeoutError):
        await asked()

    assert time.monotonic() - started_s < 1
    proxy.become("pass")
    async with store.write() as tx:
        assert 1 == await one(tx)
    await store.close()
