"""A provider on a socket, and the transports that call it: each client, with and without TLS."""

from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from shared.clock import SystemClock
from shared.providers.http1_transport import Http1Transport
from shared.providers.transport import AiohttpTransport
from tests.cassettes import interactions
from tests.fakes.certificates import self_signed, serving, trusting
from tests.fakes.upstream import running_upstream

# Recorded traffic may be at hand or not; without it there is nothing to collect, nor to skip.
collect_ignore = [] if interactions() else ["test_cassettes.py"]


class Wire(msgspec.Struct, frozen=True):
    """A client, on an event loop, with or without TLS."""

    client: str
    loop: str
    encrypted: bool

    def __str__(self):
        return f"{self.client}-{self.loop}-{'tls' if self.encrypted else 'plain'}"


WIRES = [
    Wire("aiohttp", "asyncio", encrypted=False),
    Wire("aiohttp", "asyncio", encrypted=True),
    Wire("own", "asyncio", encrypted=False),
    Wire("own", "asyncio", encrypted=True),
    Wire("own", "uvloop", encrypted=False),
    Wire("own", "uvloop", encrypted=True),
]


@pytest.fixture(scope="session", params=WIRES, ids=str)
def wire(request):
    return request.param


@pytest.fixture(scope="session")
def anyio_backend(wire):
    """Run on the wire's loop: the product uses uvloop, and asyncio's where there is none."""
    return "asyncio", {"use_uvloop": wire.loop == "uvloop"}


@pytest.fixture(scope="session")
def certificate(tmp_path_factory) -> Path:
    return self_signed(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def server_tls(wire, certificate):
    """What a server on this wire needs: nothing without TLS."""
    return serving(certificate) if wire.encrypted else None


@pytest.fixture
async def upstream(server_tls):
    async with running_upstream(server_tls) as running:
        yield running


@pytest.fixture
async def plain_upstream():
    async with running_upstream() as running:
        yield running


@pytest.fixture
def new_transport(wire):
    """Open a client of this wire's kind that trusts one certificate."""

    @asynccontextmanager
    async def opened(*, trusted: Path | None = None, **how):
        context = trusting(trusted) if trusted else None
        transport = (
            Http1Transport(SystemClock(), ssl_context=context, **how)
            if wire.client == "own"
            else AiohttpTransport(context)
        )
        try:
            yield transport
        finally:
            await transport.aclose()

    return opened


@pytest.fixture
async def transport(new_transport, certificate):
    async with new_transport(trusted=certificate) as opened:
        yield opened
