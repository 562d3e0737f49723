"""One attempt that takes several calls."""

import asyncio
from contextlib import asynccontextmanager

import msgspec
import pytest

from shared.attempts.whole import call_whole
from shared.config.model import Timeouts
from shared.errors import FailureKind, StoreUnavailable, UpstreamError
from shared.providers.exchange import HttpRequest, HttpResponse, Reply
from shared.providers.fanned import MOST_AT_ONCE, FannedExchange
from tests.fakes.clock import FakeClock


class Opened(msgspec.Struct):
    """An answer that is there."""

    status: int
    body: bytes
    headers: dict = {}

    async def read(self, _limit_bytes):
        return self.body


class Counting:
    """Answers with the body it was sent, after as many turns of the loop as that says."""

    def __init__(self, failing=(), refused=()):
        self._refused = set(refused)
        self.running = self.most = self.asked = 0
        self._failing = set(failing)

    @asynccontextmanager
    async def open(self, request, *, connect_s):
        self.running += 1
        self.asked += 1
        self.most = max(self.most, self.running)
        try:
            for _ in range(int(request.body) % 7):
                await asyncio.sleep(0)
            if int(request.body) in self._refused:
                raise StoreUnavailable("The disk is full.")
            failed = int(request.body) in self._failing
            yield Opened(500 if failed else 200, request.body)
        finally:
            self.running -= 1


class Parts(FannedExchange):
    """Asks for so many numbers, and joins them."""

    def __init__(self, count):
        self.requests = [
            HttpRequest(url="http://up", headers={}, body=b"%d" % number) for number in range(count)
        ]
        self.request = self.requests[0]

    def read_all(self, responses):
        return Reply(body=b" ".join(response.body for response in responses))

    def error_of(self, response: HttpResponse):
        return UpstreamError(FailureKind.SERVER_ERROR, response.body.decode(), status=500)


async def ask(parts, transport):
    return await call_whole(parts, transport, timeouts=Timeouts(), limit_s=60, clock=FakeClock())


async def test_answers_keep_the_order_of_the_questions():
    transport = Counting()

    reply = await ask(Parts(30), transport)

    assert b" ".join(b"%d" % number for number in range(30)) == reply.body
    assert MOST_AT_ONCE == transport.most


@pytest.mark.behaviour(185)
async def test_the_first_failure_ends_all():
    transport = Counting(failing=[0])

    with pytest.raises(UpstreamError) as caught:
        await ask(Parts(100), transport)

    assert "0" == caught.value.message
    assert 0 == transport.running
    assert transport.asked < 100


async def test_a_failure_before_any_answer_is_free():
    with pytest.raises(UpstreamError) as caught:
        await ask(Parts(1), Counting(failing=[0]))

    assert not caught.value.billed


async def test_what_was_answered_before_a_failure_is_billed():
    with pytest.raises(UpstreamError) as caught:
        await ask(Parts(100), Counting(failing=[60]))

    assert caught.value.billed


async def test_what_was_answered_before_the_books_refused_is_billed():
    """They are those of another call that shared the turn; this one had been opened."""
    for parts, refused in ((1, 0), (100, 60)):
        with pytest.raises(StoreUnavailable) as caught:
            await ask(Parts(parts), Counting(refused=[refused]))

        assert (refused > 0) is caught.value.billed
