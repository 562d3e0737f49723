"""A provider on a socket, and the transport that calls it."""

import pytest

from shared.providers.transport import AiohttpTransport
from tests.fakes.upstream import running_upstream


@pytest.fixture
async def upstream():
    async with running_upstream() as running:
        yield running


@pytest.fixture
async def transport():
    opened = AiohttpTransport()
    yield opened
    await opened.aclose()
