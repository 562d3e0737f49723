"""A provider without a network: speaks OpenAI's wire format for URLs that begin with `mock:`.

Answers are a function of the request, so that the same call gives the same bytes. A token is a
word here. What the mock does is said by the body's `mock` object, which may also stand in the
params of the provider or of the route's target (the body's own keys win):

| option | effect |
|---|---|
| `text` | answer with this text instead of an echo of the last user message |
| `tokens` | answer with exactly this many words, at most 100,000 |
| `delay_ms` | wait before the head of the answer |
| `pace_ms` | wait before each chunk of a stream but the first |
| `status` | answer with this HTTP status and OpenAI's error body |
| `code`, `type`, `message` | what that error body says |
| `retry_after_s` | the `retry-after` header of that error |
| `reset` | break the connection before the head |
| `silent` | never answer |
| `cut_after` | break the connection after this many chunks (of a whole answer: in its middle) |
| `stall_after` | send this many chunks and then nothing more |
| `times` | the faults above befall only the first calls, so many of them; then it answers |
| `id` | keeps the counting of `times` apart from that of equal options elsewhere |

`times` is counted per process, provider, model and options. A tool is called when `tool_choice`
demands one, or when the last message is a user's and contains `call NAME`; its arguments are the
smallest that its schema allows. With `response_format` the text is such JSON too.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Annotated
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from shared.clock import Clock
from shared.errors import FailureKind, UpstreamError
from shared.providers.exchange import HttpRequest, OpenResponse
from shared.providers.mock_answers import (
    MOST_TOKENS,
    MockRequest,
    answer_of,
    chunks_of,
    embeddings_of,
)

COUNTED_CALLS = 10_000
"""Option sets whose calls are remembered for `times`; the oldest is forgotten first."""

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "invalid_request_error",
    429: "requests",
    503: "service_unavailable_error",
}
_CODES = {401: "invalid_api_key", 404: "model_not_found", 429: "rate_limit_exceeded"}


class MockOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The `mock` object of a request body."""

    text: str | None = None
    tokens: Annotated[int, Meta(ge=0, le=MOST_TOKENS)] | None = None
    delay_ms: float = 0
    pace_ms: float = 0
    status: int | None = None
    code: str | None = None
    type: str | None = None
    message: str | None = None
    retry_after_s: float | None = None
    reset: bool = False
    silent: bool = False
    cut_after: int | None = None
    stall_after: int | None = None
    times: int | None = None
    id: str | None = None

    @property
    def without_faults(self) -> "MockOptions":
        """The same, once `times` is used up."""
        return MockOptions(text=self.text, tokens=self.tokens, pace_ms=self.pace_ms)


class _Body(MockRequest, frozen=True, kw_only=True):
    mock: MockOptions = MockOptions()


class MockResponse:
    """An answer of the mock, chunk by chunk."""

    def __init__(
        self,
        status: int,
        headers: Mapping[str, str],
        pieces: list[bytes],
        *,
        options: MockOptions,
        clock: Clock,
    ) -> None:
        self.status = status
        self.headers = headers
        self._pieces = pieces
        self._options = options
        self._clock = clock

    async def read(self, limit_bytes: int) -> bytes:
        """Return the body; the faults of `chunks` befall it too."""
        body = b"".join([piece async for piece in self.chunks()])
        if len(body) > limit_bytes:
            raise UpstreamError(
                FailureKind.MALFORMED, f"The provider's answer is larger than {limit_bytes} bytes."
            )
        return body

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the chunks at their pace.

        Raises:
            UpstreamError: CONNECTION at `cut_after`.
        """
        options = self._options
        for number, piece in enumerate(self._pieces):
            if number == options.stall_after:
                await _for_ever()
            if number == options.cut_after:
                raise UpstreamError(FailureKind.CONNECTION, "The mock cut its answer.")
            # Always something real to wait for, so that a stream can be cancelled anywhere.
            await self._clock.sleep(options.pace_ms / 1000 if number else 0)
            yield piece


class MockTransport:
    """Answers `mock://PROVIDER/v1/...` in this process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._calls: OrderedDict[bytes, int] = OrderedDict()

    def open(
        self, request: HttpRequest, *, connect_s: float
    ) -> AbstractAsyncContextManager[OpenResponse]:
        """Answer after `delay_ms`; `connect_s` is of no use, nothing connects.

        Raises:
            UpstreamError: CONNECTION for `reset`.
        """
        del connect_s
        return self._answering(request)

    @asynccontextmanager
    async def _answering(self, request: HttpRequest) -> AsyncIterator[OpenResponse]:
        try:
            body = msgspec.json.decode(request.body, type=_Body)
        except (msgspec.DecodeError, RecursionError) as error:
            yield self._failing(MockOptions(status=400, message=f"mock: {error}"))
            return
        options = self._options(request, body)
        if options.delay_ms:
            await self._clock.sleep(options.delay_ms / 1000)
        if options.silent:
            await _for_ever()
        if options.reset:
            raise UpstreamError(FailureKind.CONNECTION, "The mock closed the connection.")
        yield self._failing(options) if options.status else self._good(request, body, options)

    def _options(self, request: HttpRequest, body: _Body) -> MockOptions:
        options = body.mock
        if options.times is None:
            return options
        key = msgspec.json.encode((urlsplit(request.url).netloc, body.model, options))
        calls = self._calls.pop(key, 0) + 1
        self._calls[key] = calls
        if len(self._calls) > COUNTED_CALLS:
            self._calls.popitem(last=False)
        return options if calls <= options.times else options.without_faults

    def _failing(self, options: MockOptions) -> MockResponse:
        status = options.status or 500
        error = {
            "message": options.message or f"The mock answers {status} as told.",
            "type": options.type or _TYPES.get(status, "server_error"),
            "param": None,
            "code": options.code or _CODES.get(status),
        }
        headers = {"content-type": "application/json"}
        if options.retry_after_s is not None:
            headers["retry-after"] = f"{options.retry_after_s:g}"
        body = msgspec.json.encode({"error": error})
        return MockResponse(status, headers, [body], options=MockOptions(), clock=self._clock)

    def _good(self, request: HttpRequest, body: _Body, options: MockOptions) -> MockResponse:
        path = urlsplit(request.url).path
        media_type = "application/json"
        if path.endswith("/embeddings"):
            pieces = [embeddings_of(body)]
        elif body.stream:
            media_type = "text/event-stream"
            pieces = chunks_of(
                body, legacy=not path.endswith("/chat/completions"), text=options.text,
                tokens=options.tokens,
            )  # fmt: skip
        else:
            answer = answer_of(
                body, legacy=not path.endswith("/chat/completions"), text=options.text,
                tokens=options.tokens,
            )  # fmt: skip
            half = len(answer) // 2
            pieces = [answer] if options.cut_after is None else [answer[:half], answer[half:]]
        return MockResponse(
            200, {"content-type": media_type}, pieces, options=options, clock=self._clock
        )


async def _for_ever() -> None:
    await asyncio.Event().wait()
