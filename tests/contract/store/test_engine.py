"""Transactions: what commits, what does not, and what a database that is away looks like."""

import asyncio
import gc
import threading
import time
from datetime import UTC, timedelta

import anyio
import pytest
import sqlalchemy as sa

from shared.errors import StoreUnavailable
from shared.store.engine import SchemaBehind, open_store
from shared.store.keys import ensure_tenant, tenant
from shared.store.lanes import POSTGRESQL_CONNECTIONS
from shared.store.schema import migrate
from shared.store.urls import SESSION, BadStoreUrl, parse_store_url
from tests.contract.store.makers import START

pytestmark = pytest.mark.anyio


async def tenants_of(store):
    async with store.read() as tx:
        found = await tx.connection.execute(sa.text("SELECT id FROM tenant ORDER BY id"))
        return list(found.scalars())


async def test_a_block_commits(store):
    async with store.write() as tx:
        await ensure_tenant(tx, "acme", "s", START)

    assert ["acme"] == await tenants_of(store)


@pytest.mark.parametrize("error", [RuntimeError("mine"), TimeoutError()], ids=repr)
async def test_an_error_rolls_the_whole_block_back_and_stays_what_it_is(store, error):
    async def work():
        async with store.write() as tx:
            await ensure_tenant(tx, "acme", "s", START)
            raise error

    with pytest.raises(type(error)) as raised:
        await work()

    assert error is raised.value
    assert [] == await tenants_of(store)


async def test_a_reader_cannot_write(store):
    with pytest.raises(StoreUnavailable):
        async with store.read() as tx:
            await ensure_tenant(tx, "acme", "s", START)

    async with store.write() as tx:  # and leaves nothing read-only behind
        await ensure_tenant(tx, "acme", "s", START)
    assert ["acme"] == await tenants_of(store)


async def test_a_mistake_in_the_sql_is_a_bug_not_an_outage(store):
    with pytest.raises(sa.exc.DBAPIError):
        async with store.write() as tx:
            await tx.connection.execute(sa.text("SELECT nothing FROM nowhere"))


async def test_cancellation_inside_transactions_leaves_every_connection_usable(store):
    """More tasks than connections are cancelled at every point; then everything works."""

    async def write(number, reached):
        async with store.write() as tx:
            await ensure_tenant(tx, f"cancelled_{number}", "s", START)
            reached.set()
            await asyncio.Event().wait()

    async def read(reached):
        async with store.read() as tx:
            await tx.connection.execute(sa.text(SLOW[store.backend]))
            reached.set()

    for number in range(12):
        reached = asyncio.Event()
        work = write(number, reached) if number % 2 else read(reached)
        task = asyncio.create_task(work)
        if number % 2:
            await reached.wait()
        else:
            for _ in range(number):
                await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def work(number):
        async with store.write() as tx:
            await ensure_tenant(tx, f"kept_{number:02}", "s", START)

    await asyncio.gather(*(work(number) for number in range(20)))
    assert [f"kept_{number:02}" for number in range(20)] == await tenants_of(store)


SLOW = {
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000)"
    " SELECT max(i) FROM n",
    "postgresql": "SELECT pg_sleep(1)",
}


async def test_a_cancel_scope_that_cancels_again_and_again_does_no_harm(store):
    """Anyio's cancellation also strikes while a transaction is being rolled back."""
    for number in range(12):
        with anyio.move_on_after(0.002 * number):
            async with store.write() as tx:
                await ensure_tenant(tx, f"cut_{number}", "s", START)
                await anyio.sleep(9)

    async with store.write() as tx:
        await ensure_tenant(tx, "acme", "s", START)
    assert ["acme"] == await tenants_of(store)


async def test_cancellation_while_waiting_for_a_connection_gives_nothing_away(store):
    """Those who wait in line and leave it do not take a permit with them."""
    held = asyncio.Event()
    let_go = asyncio.Event()

    async def hold():
        async with store.write():
            held.set()
            await let_go.wait()

    size = 1 if store.backend == "sqlite" else POSTGRESQL_CONNECTIONS
    holders = [asyncio.create_task(hold()) for _ in range(size)]
    await held.wait()
    waiting = [asyncio.create_task(store.ping(5) if number % 2 else hold()) for number in range(6)]
    await asyncio.sleep(0.05)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    let_go.set()
    await asyncio.gather(*holders)

    async with store.write() as tx:
        await ensure_tenant(tx, "acme", "s", START)
    assert ["acme"] == await tenants_of(store)


async def test_writers_do_not_lose_each_others_work(store):
    """Read, add one, write: forty of them at once add forty."""
    async with store.write() as tx:
        await tx.connection.execute(sa.text("CREATE TABLE counter (n INTEGER)"))
        await tx.connection.execute(sa.text("INSERT INTO counter VALUES (0)"))
    lock = " FOR UPDATE" if store.backend == "postgresql" else ""

    async def add():
        async with store.write() as tx:
            n = (await tx.connection.execute(sa.text(f"SELECT n FROM counter{lock}"))).scalar_one()
            await tx.connection.execute(sa.text("UPDATE counter SET n = :n"), {"n": n + 1})

    await asyncio.gather(*(add() for _ in range(40)))

    async with store.read() as tx:
        assert 40 == (await tx.connection.execute(sa.text("SELECT n FROM counter"))).scalar_one()


async def test_the_given_clock_is_the_transactions(store, clock):
    async with store.read() as tx:
        assert START == await tx.now()
    clock.forward(5)
    async with store.write() as tx:
        assert START + timedelta(seconds=5) == await tx.now()


async def test_without_a_clock_the_databases_own_counts(store_url):
    opened = await open_store(store_url)
    async with opened.read() as tx:
        first = await tx.now()
        second = await tx.now()
    await opened.close()

    assert UTC == first.tzinfo
    assert first <= second


async def test_a_closed_store_refuses(store):
    await store.close()
    await store.close()

    with pytest.raises(StoreUnavailable):
        async with store.read():
            pass


async def test_closing_waits_for_what_is_under_way(store_url):
    opened = await open_store(store_url)
    inside = asyncio.Event()
    go_on = asyncio.Event()

    async def work():
        async with opened.write() as tx:
            inside.set()
            await go_on.wait()
            await ensure_tenant(tx, "acme", "s", START)

    task = asyncio.create_task(work())
    await inside.wait()
    closing = asyncio.create_task(opened.close())
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.gather(task, closing)

    again = await open_store(store_url)
    assert ["acme"] == await tenants_of(again)
    await again.close()
    gc.collect()  # an unclosed connection would warn here, and a warning is an error


async def test_a_database_without_schema_is_told_to_migrate(tmp_path, empty_postgres_url):
    for url in (f"sqlite:///{tmp_path}/new.db", empty_postgres_url):
        opened = await open_store(url)
        with pytest.raises(SchemaBehind, match="sluiceway migrate"):
            await opened.check_schema()
        await asyncio.to_thread(migrate, url)
        await opened.check_schema()
        await opened.close()


async def test_a_newer_schema_is_fine(store):
    """During an upgrade the old processes run on the new schema for a while."""
    async with store.write() as tx:
        await tx.connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))

    await store.check_schema()


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:////nowhere/at/all/x.db",
        "postgresql://u@/x?host=/nowhere",
        "postgresql://u@127.0.0.1:1/x",
    ],
)
async def test_a_database_that_is_away_says_so(url):
    opened = await open_store(url)
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await opened.ping(5)
        with pytest.raises(StoreUnavailable):
            async with opened.write() as tx:
                await tenant(tx, "acme")
    await opened.close()


async def test_a_file_that_is_no_database_is_away(tmp_path):
    path = tmp_path / "x.db"
    path.write_bytes(b"garbage" * 2000)
    opened = await open_store(f"sqlite:///{path}")

    with pytest.raises(StoreUnavailable):
        await opened.ping(5)
    await opened.close()


CUT = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname LIKE 'test_%'"


async def test_a_restart_of_the_server_costs_nobody_an_error(postgres_server, postgres_url):
    opened = await open_store(postgres_url)
    async with opened.read() as tx:
        await tenant(tx, "acme")
    postgres_server.execute(CUT)

    async with opened.read() as tx:
        assert await tenant(tx, "acme") is None
    await opened.close()


async def test_a_connection_cut_in_a_transaction_is_an_outage(postgres_server, postgres_url):
    opened = await open_store(postgres_url)

    async def work():
        async with opened.write() as tx:
            await ensure_tenant(tx, "acme", "s", START)
            await asyncio.to_thread(postgres_server.execute, CUT)
            await tenant(tx, "acme")

    with pytest.raises(StoreUnavailable):
        await work()

    assert [] == await tenants_of(opened)
    await opened.close()


async def test_another_processs_lock_is_waited_for_only_so_long(sqlite_url):
    """A writer elsewhere that does not end makes us unavailable, not slow for ever."""
    first = await open_store(sqlite_url)
    second = await open_store(f"{sqlite_url}?timeout=0.1")
    async with first.write() as tx:
        await ensure_tenant(tx, "acme", "s", START)
        with pytest.raises(StoreUnavailable, match="locked"):
            async with second.write():
                pass
        async with second.read() as reading:  # readers go on
            assert await tenant(reading, "acme") is None
    await first.close()
    await second.close()


@pytest.mark.parametrize("url", ["", "nonsense", "mysql://h/db", "sqlite://", "sqlite:///:memory:"])
def test_other_urls_are_refused(url):
    with pytest.raises(BadStoreUrl):
        parse_store_url(url)


def test_the_servers_own_timeouts_go_along_and_the_callers_options_win():
    url = parse_store_url(
        "postgres://u:p@h/db?options=-c%20statement_timeout%3D9&connect_timeout=1"
    )

    query = url.for_asyncio().query

    assert f"{SESSION} -c statement_timeout=9" == query["options"]
    assert "1" == query["connect_timeout"]


async def test_time_goes_on_within_a_transaction(store_url):
    """Although the database is asked for it once."""
    opened = await open_store(store_url)
    async with opened.read() as tx:
        first = await tx.now()
        asked_s = time.monotonic()
        await asyncio.sleep(0.02)  # uvloop's clock counts milliseconds: it may be a bit less
        slept = timedelta(seconds=time.monotonic() - asked_s)
        second = await tx.now()
    async with opened.read() as tx:
        third = await tx.now()
    await opened.close()

    assert first + slept - timedelta(milliseconds=1) <= second <= third


async def test_work_on_sqlites_thread_that_is_cut_off_is_undone(tmp_path):
    """It commits nothing, and the next transaction has a connection that works."""
    url = f"sqlite:///{tmp_path}/work.db"
    migrate(url)
    store = await open_store(url)
    begun = threading.Event()

    def slow(raw):
        raw.execute("INSERT INTO tenant (id, webhook_secret, created_at) VALUES ('cut', 's', 0)")
        begun.set()
        time.sleep(0.2)

    async def work():
        async with store.write() as tx:
            await tx.on_thread(slow)

    task = asyncio.create_task(work())
    await asyncio.to_thread(begun.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    async with store.write() as tx:
        await ensure_tenant(tx, "acme", "s", START)
    assert ["acme"] == await tenants_of(store)
    await store.close()


async def test_work_on_sqlites_thread_meets_the_same_errors(tmp_path):
    url = f"sqlite:///{tmp_path}/work.db"
    migrate(url)
    store = await open_store(url)

    with pytest.raises(sa.exc.OperationalError):
        async with store.write() as tx:
            await tx.on_thread(lambda raw: raw.execute("SELECT nothing FROM nowhere"))
    with pytest.raises(StoreUnavailable):
        async with store.read() as tx:
            await tx.on_thread(lambda raw: raw.execute("DELETE FROM tenant"))
    await store.close()
