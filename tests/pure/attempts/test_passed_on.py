"""Streams that flow past their reader: what is passed on at once is what would have been read."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.attempts.stream import MAX_STREAM_BYTES, UpstreamStream
from shared.clock import SystemClock
from shared.config.model import Timeouts
from shared.errors import UpstreamError
from shared.providers.dialects.openai import RelayExchange
from shared.providers.exchange import HttpRequest, OpenResponse
from shared.providers.http1_answer import Answer

TIMEOUTS = Timeouts(connect_s=1, first_token_s=10, idle_s=5, attempt_s=60)
REQUEST = HttpRequest(url="http://up", headers={}, body=b"")
SSE = {b"content-type": b"text/event-stream"}


def event(delta: object = None, finish: str | None = None, **more: object) -> bytes:
    choices = [{"index": 0, "delta": delta or {}, "finish_reason": finish}]
    chunk = {"id": "1", "object": "chat.completion.chunk", "created": 5, "model": "m"}
    return b"data: " + json.dumps({**chunk, "choices": choices, **more}).encode() + b"\n\n"


def words(text: str, **more: object) -> bytes:
    return event({"content": text}, **more)


FIRST = event({"role": "assistant", "content": ""}) + words("first")
EVENTS = [
    words(" word"),
    words(" more"),
    words("wörds", usage=None),
    words(' "quoted"'),
    event({"content": ""}),
    event({"reasoning": "hm"}),
    b": a comment\n\n",
    event({}, "stop"),
    event({}, "error"),
    words("", error={"message": "no more"}),
    event(usage={"prompt_tokens": 3, "completion_tokens": 2}, choices=[]),
    b"data: no JSON\n\n",
    b"data: [DONE]\n\n",
]


class Filled:
    """A transport whose one answer the test fills."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer

    def open(
        self, request: HttpRequest, *, connect_s: float
    ) -> AbstractAsyncContextManager[OpenResponse]:
        return self._open()

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[OpenResponse]:
        yield self.answer


async def opened() -> tuple[UpstreamStream, Answer]:
    answer = Answer(asyncio.get_running_loop())
    answer.open(200, SSE)
    answer.add(FIRST)
    exchange = RelayExchange(
        request=REQUEST, endpoint="/v1/chat/completions", usage_forced=True, names={}, model="m"
    )
    stream = UpstreamStream(exchange, Filled(answer), TIMEOUTS, SystemClock())
    await stream.open(60)
    return stream, answer


async def relayed(arrivals: Iterable[tuple[bytes, int]], takes: Sequence[bool] | None) -> object:
    """Return all that a caller gets and the books learn; arrivals are turns of the loop apart.

    `takes` says of each piece in turn whether the caller can be sent it at once.
    """
    stream, answer = await opened()
    out: list[bytes] = []
    told = iter(takes or ())

    def taker(piece: bytes) -> bool:
        if not next(told, True):
            return False
        out.append(piece)
        return True

    async def read() -> str | None:
        try:
            async for piece in stream:
                out.append(piece)  # noqa: PERF401 (what came before a failure counts, too)
        except UpstreamError as error:
            return error.message
        return None

    if takes is not None:
        stream.pass_to(taker)
    reading = asyncio.create_task(read())
    await asyncio.sleep(0)
    for piece, turns in arrivals:
        if turns % 2:
            answer.push(piece)
        else:
            answer.add(piece)
            answer.arrived()
        for _ in range(turns):
            await asyncio.sleep(0)
    answer.end()
    error, scanner = await reading, stream.scanner
    await stream.aclose()
    assert answer.taker is None
    return b"".join(out), error, stream.whole, scanner.content_bytes, scanner.usage, scanner.model


@given(
    events=st.lists(st.sampled_from(EVENTS), max_size=10),
    cuts=st.lists(st.integers(0, 1500), max_size=8),
    turns=st.lists(st.integers(0, 4), min_size=20, max_size=20),
    takes=st.lists(st.booleans(), max_size=10),
)
def test_a_caller_gets_the_same_whichever_way_it_comes(
    events: list[bytes], cuts: list[int], turns: list[int], takes: list[bool]
) -> None:
    """However the bytes are cut, and whenever the caller is too slow to be sent more."""
    text = b"".join(events)
    ends = sorted({min(cut, len(text)) for cut in cuts} | {len(text)})
    pieces = [text[at:end] for at, end in zip([0, *ends], ends, strict=False) if end > at]
    assert asyncio.run(relayed([(text, 1)] if text else [], None)) == asyncio.run(
        relayed(zip(pieces, turns, strict=False), takes)
    )
    arrivals = list(zip([*events], turns, strict=False))
    assert asyncio.run(relayed(arrivals, None)) == asyncio.run(relayed(arrivals, takes))


@pytest.mark.anyio
async def test_what_flows_wakes_nobody() -> None:
    """It is with the caller before the event loop turns; the end, and what leads to it, is read."""
    stream, answer = await opened()
    assert words("first") in await stream.piece()  # type: ignore[operator]
    taken: list[bytes] = []
    stream.pass_to(lambda piece: taken.append(piece) is None)
    reading = asyncio.create_task(stream.piece())
    await asyncio.sleep(0)

    for piece in (words("a"), words("b") + words("c"), event({}, "stop")):
        answer.push(piece)

    assert [words("a"), words("b") + words("c")] == taken
    assert event({}, "stop") == await reading
    await stream.aclose()


@pytest.mark.anyio
async def test_what_is_too_much_ends_the_stream() -> None:
    """A stream that never ends does not flow past its limit, either."""
    stream, answer = await opened()
    await stream.piece()
    taken: list[bytes] = []
    stream.pass_to(lambda piece: taken.append(piece) is None)
    reading = asyncio.create_task(stream.piece())
    await asyncio.sleep(0)
    long = words("x" * (MAX_STREAM_BYTES // 4))

    for _ in range(4):
        answer.add(long)
        answer.arrived()

    assert ([long] * 3, long) == (taken, await reading)
    with pytest.raises(UpstreamError, match="passed"):
        await stream.piece()
    await stream.aclose()


@pytest.mark.anyio
async def test_a_fault_on_the_way_is_the_readers() -> None:
    """The provider's connection has nothing to do with it."""
    stream, answer = await opened()
    await stream.piece()

    def taker(piece: bytes) -> bool:
        raise ValueError("a bug")

    stream.pass_to(taker)
    reading = asyncio.create_task(stream.piece())
    await asyncio.sleep(0)
    answer.add(words("a"))
    answer.arrived()

    with pytest.raises(ValueError, match="a bug"):
        await reading
    await stream.aclose()
