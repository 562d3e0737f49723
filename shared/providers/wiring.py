"""The transport of a process: aiohttp for the network, the mock for `mock:`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from shared.clock import Clock
from shared.providers.exchange import Transport
from shared.providers.mock import MockTransport
from shared.providers.transport import AiohttpTransport, RoutingTransport


@asynccontextmanager
async def open_transport(clock: Clock) -> AsyncIterator[Transport]:
    """Yield the transport of this process's event loop; all its connections end with it."""
    network = AiohttpTransport()
    try:
        yield RoutingTransport(network, {"mock": MockTransport(clock)})
    finally:
        await network.aclose()
