"""The transport of a process: our own client for the network, the mock for `mock:`."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

from shared.clock import Clock
from shared.providers.exchange import HttpRequest, OpenResponse, Transport
from shared.providers.http1_transport import Http1Transport
from shared.providers.mock import MockTransport

AIOHTTP_SCHEMES: frozenset[str] = frozenset()
"""Schemes whose calls go through aiohttp instead: the way out, were our own client found wanting.

With `https` in it, calls cost four times the CPU and everything else stays as it is.
"""


class RoutingTransport:
    """Sends a call to the transport of its URL's scheme, all others to `other`."""

    def __init__(self, other: Transport, by_scheme: Mapping[str, Transport]) -> None:
        self._other = other
        self._by_scheme = dict(by_scheme)

    def open(
        self, request: HttpRequest, *, connect_s: float
    ) -> AbstractAsyncContextManager[OpenResponse]:
        """Open the call where it belongs."""
        scheme = request.url.partition(":")[0]
        transport = self._by_scheme.get(scheme, self._other)
        return transport.open(request, connect_s=connect_s)


@asynccontextmanager
async def open_transport(
    clock: Clock, *, gather_s: float = 0.0, aiohttp_schemes: frozenset[str] = AIOHTTP_SCHEMES
) -> AsyncIterator[Transport]:
    """Yield the transport of this process's event loop; all its connections end with it.

    `gather_s` is the config's `server.gather_s`.
    """
    async with AsyncExitStack() as closing:
        own = Http1Transport(clock, gather_s=gather_s)
        closing.push_async_callback(own.aclose)
        by_scheme: dict[str, Transport] = {"mock": MockTransport(clock)}
        if aiohttp_schemes:
            from shared.providers.transport import AiohttpTransport

            other = AiohttpTransport()
            closing.push_async_callback(other.aclose)
            by_scheme |= dict.fromkeys(aiohttp_schemes, other)
        yield RoutingTransport(own, by_scheme)
