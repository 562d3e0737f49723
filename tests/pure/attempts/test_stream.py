"""Streams: silent until the first content, explicit about their end."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from shared.attempts.stream import FINISH_S, UpstreamStream
from shared.attempts.whole import call_whole
from shared.chat.usage import Usage
from shared.config.model import Timeouts
from shared.errors import FailureKind, UpstreamError
from shared.providers.exchange import (
    HttpRequest,
    HttpResponse,
    OpenResponse,
    Reply,
    Scan,
)
from tests.fakes.clock import FakeClock

pytestmark = pytest.mark.anyio

TIMEOUTS = Timeouts(connect_s=1, first_token_s=10, idle_s=5, attempt_s=60)


class Letters:
    """A scanner for a toy protocol: `#` is a comment, `.` the end, `!` an error, else content.

    `$` is a finish reason, after which only the end may follow.
    """

    def __init__(self) -> None:
        self.model: str | None = "toy"
        self.usage: Usage | None = None
        self.finished = False
        self.content_bytes = 0
        self.service_tier: str | None = None

    def feed(self, chunk: bytes) -> Scan:
        self.content_bytes += sum(byte not in b"#.!$" for byte in chunk)
        self.finished |= b"." in chunk or b"$" in chunk
        return Scan(
            out=chunk,
            content_events=sum(byte not in b"#.!$" for byte in chunk),
            finished=self.finished,
            ended=b"." in chunk,
            error=UpstreamError(FailureKind.OVERLOADED, "said so") if b"!" in chunk else None,
        )

    def finish(self) -> Scan:
        return Scan(error=UpstreamError(FailureKind.CONNECTION, "cut"))

    def closing(self, cost_usd: str | None) -> bytes:
        return b"end"


class Toy:
    """An exchange of the toy protocol."""

    request = HttpRequest(url="http://toy", headers={}, body=b"")

    def read(self, response: HttpResponse) -> Reply:
        return Reply(body=response.body)

    def error_of(self, response: HttpResponse) -> UpstreamError:
        return UpstreamError(FailureKind.SERVER_ERROR, "status", status=response.status)

    def refuse_head(self, status: int, headers: Mapping[str, str]) -> UpstreamError | None:
        if headers.get("content-type") == "text/html":
            return UpstreamError(FailureKind.MALFORMED, "HTML")
        return None

    def scanner(self) -> Letters:
        return Letters()


class Scripted:
    """A transport that plays (wait, chunk) pairs on the clock and says whether it was closed."""

    def __init__(
        self,
        clock: FakeClock,
        script: Sequence[tuple[float, bytes]],
        status: int = 200,
        **head: str,
    ) -> None:
        self.clock = clock
        self.script = script
        self.status = status
        self.headers = {name.replace("_", "-"): value for name, value in head.items()}
        self.closed = 0

    def open(
        self, request: HttpRequest, *, connect_s: float
    ) -> AbstractAsyncContextManager[OpenResponse]:
        return self._open()

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[OpenResponse]:
        try:
            yield self
        finally:
            self.closed += 1

    async def read(self, limit_bytes: int) -> bytes:
        return b"".join([chunk async for chunk in self.chunks()])

    async def chunks(self) -> AsyncIterator[bytes]:
        for wait_s, chunk in self.script:
            await self.clock.sleep(wait_s)
            yield chunk


async def opened(transport: Scripted, limit_s: float = 600) -> UpstreamStream:
    stream = UpstreamStream(Toy(), transport, TIMEOUTS, transport.clock)
    await stream.open(limit_s)
    return stream


async def test_what_came_before_the_first_content_comes_with_it() -> None:
    """The caller gets every byte, in order, and the end."""
    transport = Scripted(FakeClock(), [(1, b"#"), (1, b"#"), (1, b"a"), (1, b"b"), (1, b".")])
    stream = await opened(transport)

    assert 3.0 == stream.first_token_s
    assert [b"##a", b"b", b"."] == [piece async for piece in stream]
    assert stream.whole
    await stream.aclose()
    await stream.aclose()
    assert 1 == transport.closed


async def test_an_end_mark_that_does_not_come_is_not_waited_for() -> None:
    """All has been said; the connection is of no use any more."""
    transport = Scripted(FakeClock(), [(1, b"a"), (1, b"$"), (30, b"b")])
    stream = await opened(transport)

    assert [b"a", b"$"] == [piece async for piece in stream]
    assert (2 + FINISH_S, True) == (transport.clock.elapsed_s, stream.whole)
    await stream.aclose()
    assert (2 + FINISH_S, 1) == (transport.clock.elapsed_s, transport.closed)


async def test_what_came_before_a_failure_goes_out_first() -> None:
    """Also when both came in one piece."""
    transport = Scripted(FakeClock(), [(1, b"a"), (1, b"b!")])
    stream = await opened(transport)

    assert [b"a", b"b!"] == [await stream.piece(), await stream.piece()]
    with pytest.raises(UpstreamError):
        await stream.piece()


@pytest.mark.behaviour(123)
@pytest.mark.parametrize(
    ("script", "limit_s", "kind", "at_s"),
    [
        ([(11, b"a")], 600, FailureKind.TIMEOUT, 10),
        ([(4, b"#"), (4, b"#"), (4, b"#")], 600, FailureKind.TIMEOUT, 10),
        ([(4, b"a")], 3, FailureKind.TIMEOUT, 3),
        ([(1, b"#")], 600, FailureKind.CONNECTION, 1),
        ([(1, b"!")], 600, FailureKind.OVERLOADED, 1),
    ],
)
async def test_a_failure_before_content_leaves_no_trace(
    script: list[tuple[float, bytes]], limit_s: float, kind: FailureKind, at_s: float
) -> None:
    """Comments and heads do not stop the first-token clock; the call is closed again."""
    transport = Scripted(FakeClock(), script)

    with pytest.raises(UpstreamError) as caught:
        await opened(transport, limit_s)

    assert (kind, at_s, 1) == (caught.value.kind, transport.clock.elapsed_s, transport.closed)


@pytest.mark.parametrize(
    ("script", "kind", "at_s"),
    [
        ([(1, b"a"), (6, b"b")], FailureKind.TIMEOUT, 6),
        ([(1, b"a"), (2, b"#"), (2, b"#"), (2, b"#")], FailureKind.TIMEOUT, 6),
        ([(1, b"a"), *[(4, b"b")] * 20], FailureKind.TIMEOUT, 60),
        ([(1, b"a")], FailureKind.CONNECTION, 1),
        ([(1, b"a"), (1, b"!")], FailureKind.OVERLOADED, 2),
    ],
)
async def test_a_broken_stream_says_so(
    script: list[tuple[float, bytes]], kind: FailureKind, at_s: float
) -> None:
    """Stalls count content only, and an end without the end mark is no end."""
    transport = Scripted(FakeClock(), script)
    stream = await opened(transport)

    with pytest.raises(UpstreamError) as caught:
        [piece async for piece in stream]

    assert (kind, at_s, False) == (caught.value.kind, transport.clock.elapsed_s, stream.whole)
    await stream.aclose()
    assert 1 == transport.closed


async def test_an_error_status_is_read_whole() -> None:
    """Its body says what it was."""
    with pytest.raises(UpstreamError) as caught:
        await opened(Scripted(FakeClock(), [(1, b"oops")], status=503))

    assert 503 == caught.value.status


async def test_html_is_refused_at_the_door() -> None:
    """Also with status 200."""
    with pytest.raises(UpstreamError) as caught:
        await opened(Scripted(FakeClock(), [(1, b"a")], content_type="text/html"))

    assert FailureKind.MALFORMED is caught.value.kind


async def test_a_whole_answer_has_one_limit() -> None:
    """The shorter of the attempt's and the chain's."""
    clock = FakeClock()

    with pytest.raises(UpstreamError) as caught:
        await call_whole(
            Toy(), Scripted(clock, [(9, b"a")]), timeouts=TIMEOUTS, limit_s=2, clock=clock
        )

    assert (FailureKind.TIMEOUT, 2.0) == (caught.value.kind, clock.elapsed_s)
