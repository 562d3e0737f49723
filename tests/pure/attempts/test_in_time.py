"""An answer that does not begin in time is given up, where a route says how long that is."""

from contextlib import asynccontextmanager

import pytest

from shared.attempts.in_time import beginning_in_time
from shared.config.model import Timeouts
from shared.errors import FailureKind, UpstreamError
from shared.providers.exchange import HttpRequest
from tests.fakes.clock import FakeClock

REQUEST = HttpRequest(url="http://up", headers={}, body=b"")


class Slow:
    """A transport whose answers begin after two seconds, and which counts how calls end."""

    def __init__(self, clock):
        self.clock = clock
        self.left = []

    @asynccontextmanager
    async def open(self, request, *, connect_s):
        await self.clock.sleep(2.0)
        try:
            yield "the answer"
        finally:
            self.left.append(connect_s)


async def ask(transport, first_byte_s):
    bound = beginning_in_time(transport, Timeouts(first_byte_s=first_byte_s), transport.clock)
    async with bound.open(REQUEST, connect_s=1.0) as answer:
        await transport.clock.sleep(60.0)
        return answer


@pytest.mark.parametrize("first_byte_s", [None, 2.5])
async def test_what_has_begun_may_take_its_time(first_byte_s):
    transport = Slow(FakeClock())

    assert "the answer" == await ask(transport, first_byte_s)
    assert [1.0] == transport.left


async def test_what_does_not_begin_is_given_up():
    transport = Slow(FakeClock())

    with pytest.raises(UpstreamError) as caught:
        await ask(transport, 1.5)

    assert (FailureKind.TIMEOUT, 1.5) == (caught.value.kind, transport.clock.elapsed_s)


def test_without_a_limit_there_is_nothing_in_between():
    transport = Slow(FakeClock())

    assert transport is beginning_in_time(transport, Timeouts(), transport.clock)
