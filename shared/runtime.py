"""The composition root: `open_runtime(settings)` opens what a process needs, in order."""

import asyncio
import os
import random
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from shared.cache.wiring import open_shelf
from shared.clock import Clock, SystemClock
from shared.config.conduct import CacheConfig
from shared.config.load import Loaded, load_config
from shared.config.model import Config
from shared.errors import StoreUnavailable
from shared.gateway.admission import Admission
from shared.gateway.caching import CachingGateway
from shared.gateway.catalog import Catalog
from shared.gateway.files import GuardedFetcher
from shared.gateway.news import open_news
from shared.gateway.runner import Kit
from shared.gateway.service import Gateway
from shared.health.book import HealthBook
from shared.health.facts import FactBook
from shared.health.telling import tell_fact
from shared.health.wiring import open_sharing
from shared.ids import IdMaker, new_id
from shared.ledger.budgets import BudgetTable
from shared.ledger.watch import BudgetWatch, open_watch
from shared.limits.limiter import Limiter
from shared.limits.scopes import ScopeBook
from shared.limits.wiring import open_limiter
from shared.objects.port import Objects
from shared.objects.wiring import open_objects
from shared.providers.exchange import Transport
from shared.providers.registry import kinds
from shared.providers.wiring import open_transport
from shared.queue.bell import Bell
from shared.queue.wiring import open_bell
from shared.sealing import Sealer
from shared.settings import Settings
from shared.store.engine import Store, open_store
from shared.store.keys import ensure_tenant
from shared.telemetry.lag import LoopLag
from shared.telemetry.log import get_logger
from shared.telemetry.reporting import reporting
from shared.webhooks.alerting import Teller, addresses
from shared.webhooks.attempt import PostOffice
from shared.webhooks.delivery import Post, rooms_of
from shared.webhooks.egress import networks
from shared.webhooks.signature import new_secret, secret_for
from shared.webhooks.sns import Topics

log = get_logger("runtime")

Role = Literal["api", "worker", "scheduler"]

AWAY_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """One process's parts. Tests replace single fields."""

    settings: Settings
    config: Config
    owner: str
    clock: Clock
    ids: IdMaker
    store: Store
    objects: Objects
    limiter: Limiter
    transport: Transport
    gateway: Gateway
    bell: Bell
    sealer: Sealer
    lag: LoopLag
    watch: BudgetWatch

    @property
    def spool_dir(self) -> Path:
        """Where this machine's processes keep their books."""
        return self.settings.data_dir / "spool"

    def webhook_secret(self, tenant_id: str) -> str | None:
        """Return the secret the config file gives the tenant, None when the database has it."""
        for tenant in self.config.tenants:
            if tenant.id == tenant_id:
                return tenant.webhook_secret
        return None

    @cached_property
    def post_office(self) -> PostOffice:
        """What attempts to deliver webhooks need."""
        webhooks, alerts = self.config.webhooks, self.config.alerts
        return PostOffice(
            store=self.store,
            clock=self.clock,
            ids=self.ids,
            owner=self.owner,
            draw=random.random,  # noqa: TID251 (the root hands it out)
            file_secret=self.webhook_secret,
            unseal=self.sealer.open,
            post=Post(
                allowed=networks(webhooks.allow_networks),
                topics=Topics(webhooks.allow_topics),
                alerts=rooms_of(alerts),
            ),
            alerts_secret=alerts.webhook_secret,
            operator_secret=secret_for("alerts", self.settings.secret_key.reveal()),
        )


def owner_id(role: Role, settings: Settings) -> str:
    """Return this process's name for leases and spools: a supervisor's, or one of its own."""
    if settings.process_id is not None:
        return settings.process_id
    return f"{role}-{socket.gethostname()}-{os.getpid()}-{os.urandom(4).hex()}"


def read_config(settings: Settings, env: Mapping[str, str] = os.environ) -> Loaded:
    """Return the checked config file of a process, or the empty config when there is none.

    Raises:
        ConfigError: with every mistake in the file.
    """
    if settings.config_path is None:
        return Loaded(config=Config(), notes=("no config file: no routes and no tenants",))
    return load_config(settings.config_path, env, kinds())


@asynccontextmanager
async def open_runtime(
    settings: Settings, *, role: Role, processes: int = 1
) -> AsyncIterator[Runtime]:
    """Open everything around a process's life, and close it in reverse.

    A database that is away does not stop the start: what needs it says so until it is back. Of so
    many `processes` this is one; they share the limits where no Redis counts for them.

    Raises:
        ConfigError: the config file is wrong.
        SchemaBehind: `sluiceway migrate` is due.
    """
    config = read_config(settings).config
    clock = SystemClock()
    async with AsyncExitStack() as opened:
        lag = await opened.enter_async_context(reporting(role, clock))
        store = await open_store(settings.database_url)
        opened.push_async_callback(store.close)
        objects = open_objects(settings)
        opened.push_async_callback(objects.aclose)
        await _check_schema(store)
        transport = await opened.enter_async_context(
            open_transport(clock, gather_s=config.server.gather_s)
        )
        bell = open_bell(settings.broker_url)
        opened.push_async_callback(bell.aclose)
        owner = owner_id(role, settings)
        policy = config.policies.redis_down.limits
        limiter = await opened.enter_async_context(
            open_limiter(
                settings.redis_url, owner=owner, policy=policy, clock=clock, processes=processes
            )
        )
        facts = await opened.enter_async_context(_open_facts(role, settings, clock))
        watch = await opened.enter_async_context(_open_watch(role, config, store, clock))
        admission = Admission(limiter, ScopeBook(config), clock, new_id, watch.refused)
        kit = await opened.enter_async_context(
            _open_kit(config, store, owner, admission, transport, facts, clock)
        )
        cache = config.cache if role == "api" and config.cache.enabled else None
        gateway = await opened.enter_async_context(_open_gateway(kit, cache, settings, store))
        sealer = Sealer(settings.secret_key.reveal())
        tenants = asyncio.create_task(_ensure_tenants(store, config, sealer, clock))
        opened.push_async_callback(_stopped, tenants)
        yield Runtime(
            settings=settings,
            config=config,
            owner=owner,
            clock=clock,
            ids=new_id,
            store=store,
            objects=objects,
            limiter=limiter,
            transport=transport,
            gateway=gateway,
            bell=bell,
            sealer=sealer,
            lag=lag,
            watch=watch,
        )


@asynccontextmanager
async def _open_watch(
    role: Role, config: Config, store: Store, clock: Clock
) -> AsyncIterator[BudgetWatch]:
    table = BudgetTable(config)
    teller = Teller(ids=new_id, urls=addresses(config.alerts))
    watch = BudgetWatch(table.rule, teller, clock, new_id)
    if role == "scheduler" or not table:  # that one sweeps them all
        yield watch
        return
    async with open_watch(watch, store):
        yield watch


@asynccontextmanager
async def _open_facts(role: Role, settings: Settings, clock: Clock) -> AsyncIterator[FactBook]:
    facts = FactBook(tell_fact)
    if role == "scheduler":  # it calls no provider
        yield facts
        return
    async with open_sharing(settings.redis_url, facts, clock):
        yield facts


@asynccontextmanager
async def _open_kit(
    config: Config,
    store: Store,
    owner: str,
    admission: Admission,
    transport: Transport,
    facts: FactBook,
    clock: Clock,
) -> AsyncIterator[Kit]:
    async with open_news(store, clock, new_id, owner=owner) as news:
        yield Kit(
            catalog=Catalog(config, clock.now()),
            transport=transport,
            clock=clock,
            ids=new_id,
            admission=admission,
            health=HealthBook(clock, news.changed, facts),
            fetcher=GuardedFetcher(config.files, clock) if config.files.enabled else None,
        )


@asynccontextmanager
async def _open_gateway(
    kit: Kit, cache: CacheConfig | None, settings: Settings, store: Store
) -> AsyncIterator[Gateway]:
    draw = random.random  # noqa: TID251 (the root hands it out)
    if cache is None:
        yield Gateway(kit, draw)
        return
    async with open_shelf(
        cache, settings.cache_url, data_dir=settings.data_dir, store=store, clock=kit.clock
    ) as shelf:
        yield CachingGateway(kit, draw, shelf)


async def _check_schema(store: Store) -> None:
    try:
        await store.check_schema()
    except StoreUnavailable as error:
        log.warning("store.away", why=str(error))


async def _ensure_tenants(store: Store, config: Config, sealer: Sealer, clock: Clock) -> None:
    """Give each tenant of the file its row, as soon as the database lets us."""
    while True:
        try:
            async with store.write() as tx:
                for tenant in config.tenants:
                    secret = tenant.webhook_secret or new_secret(os.urandom)
                    await ensure_tenant(tx, tenant.id, sealer.seal(secret), await tx.now())
        except StoreUnavailable:
            await clock.sleep(AWAY_S)
        else:
            return


async def _stopped(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
