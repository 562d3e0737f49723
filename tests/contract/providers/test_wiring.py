"""Which client a process uses."""

import subprocess
import sys

import pytest

from shared.clock import SystemClock
from shared.providers.exchange import HttpRequest
from shared.providers.wiring import AIOHTTP_SCHEMES, open_transport

pytestmark = pytest.mark.anyio


@pytest.fixture
def wire():
    """Not once for each client: the wiring chooses."""


@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio"


@pytest.mark.parametrize("schemes", [AIOHTTP_SCHEMES, frozenset({"http"})], ids=["own", "aiohttp"])
async def test_either_client_reaches_providers_and_the_mock(plain_upstream, schemes):
    request = HttpRequest(
        url=plain_upstream.base_url() + "/chat/completions", headers={}, body=b"{}"
    )
    async with (
        open_transport(SystemClock(), aiohttp_schemes=schemes) as transport,
        transport.open(request, connect_s=1) as response,
    ):
        assert 200 == response.status
        assert b"chat.completion" in await response.read(10_000)


def test_a_client_that_is_not_used_is_not_loaded():
    """It would cost each process 10 MB and a tenth of a second."""
    code = "import sys, shared.providers.wiring; print('aiohttp' in sys.modules)"

    assert "False" == subprocess.check_output([sys.executable, "-c", code], text=True).strip()
