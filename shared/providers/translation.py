"""Asking in one dialect what was asked in another: the canonical chat stands between them."""

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import msgspec

from shared.chat.response import ChatDelta, ChatResponse
from shared.chat.usage import Usage
from shared.errors import FailureKind, UpstreamError
from shared.providers.exchange import HttpRequest, HttpResponse, Reply, Scan
from shared.providers.head import refuse_body


class Decoded(msgspec.Struct, frozen=True, kw_only=True):
    """What a piece of a provider's stream said. `ended`: its own end mark has come."""

    deltas: tuple[ChatDelta, ...] = ()
    ended: bool = False
    error: UpstreamError | None = None


class StreamDecoder(Protocol):
    """A provider's stream as deltas, however its bytes are cut."""

    def feed(self, chunk: bytes) -> Decoded:
        """Take the next bytes."""

    def finish(self) -> Decoded:
        """Take the orderly end of the connection."""


class DeltaRenderer(Protocol):
    """Deltas as the caller's stream."""

    def render(self, deltas: Iterable[ChatDelta]) -> bytes:
        """Return the bytes of these deltas."""

    def closing(self, usage: Usage | None, cost_usd: str | None) -> bytes:
        """Return what still comes after the last delta."""


class Translation(msgspec.Struct, frozen=True, kw_only=True):
    """The pure functions between one served and one target dialect.

    `refuse_head` decides about a stream's head. `error_of` is given the secret to keep it out.
    """

    parse_response: Callable[[bytes], ChatResponse]
    error_of: Callable[[HttpResponse, str | None], UpstreamError]
    refuse_head: Callable[[Mapping[str, str]], UpstreamError | None]
    decoder: Callable[[], StreamDecoder]
    render_response: Callable[[ChatResponse], bytes]
    renderer: Callable[[], DeltaRenderer]


class TranslatingExchange:
    """One attempt against a target that speaks another dialect than the caller."""

    def __init__(
        self, *, request: HttpRequest, translation: Translation, secret: str | None = None
    ) -> None:
        self.request = request
        self._translation = translation
        self._secret = secret

    def read(self, response: HttpResponse) -> Reply:
        """Turn a 2xx answer into the served dialect."""
        refused = refuse_body(response.headers)
        if refused is not None:
            raise refused
        answer = self._translation.parse_response(response.body)
        finish = answer.choices[0].finish if answer.choices else None
        return Reply(
            body=self._translation.render_response(answer),
            model=answer.model or None,
            usage=answer.usage,
            finish_reason=None if finish is None else finish.value,
        )

    def error_of(self, response: HttpResponse) -> UpstreamError:
        """Turn any other answer into a failure."""
        return self._translation.error_of(response, self._secret)

    def refuse_head(self, status: int, headers: Mapping[str, str]) -> UpstreamError | None:
        """Refuse a stream at the door: None for a 2xx stream, else why not."""
        if not 200 <= status < 300:  # noqa: PLR2004
            return self.error_of(HttpResponse(status=status, headers=headers, body=b""))
        return self._translation.refuse_head(headers)

    def scanner(self) -> "TranslatingScanner":
        """Return a fresh scanner for this exchange's stream."""
        return TranslatingScanner(self._translation.decoder(), self._translation.renderer())


class TranslatingScanner:
    """A provider's stream in, the caller's stream out."""

    def __init__(self, decoder: StreamDecoder, renderer: DeltaRenderer) -> None:
        self.model: str | None = None
        self.usage: Usage | None = None
        self.finished = False
        self.content_bytes = 0
        self._decoder = decoder
        self._renderer = renderer
        self._done: dict[int, bool] = {}
        self._ended = False
        self._error: UpstreamError | None = None

    def feed(self, chunk: bytes) -> Scan:
        """Take the next bytes. After the end mark or an error nothing more is looked at."""
        if self._ended or self._error is not None:
            return Scan(finished=self.finished, ended=self._ended, error=self._error)
        return self._take(self._decoder.feed(chunk))

    def finish(self) -> Scan:
        """Take the orderly end of the connection: `error` is set unless the answer was whole."""
        if self._ended or self._error is not None:
            return Scan(finished=self.finished, ended=self._ended, error=self._error)
        scan = self._take(self._decoder.finish())
        if scan.error is not None or self.finished:
            return scan
        self._error = _malformed("The provider's stream ended before its answer did.")
        return msgspec.structs.replace(scan, error=self._error)

    def closing(self, cost_usd: str | None) -> bytes:
        """Return the usage chunk, if asked and known, and the end mark."""
        return self._renderer.closing(self.usage, cost_usd)

    def _take(self, decoded: Decoded) -> Scan:
        self._ended = decoded.ended
        self._error = decoded.error
        content_events = sum([self._learn(delta) for delta in decoded.deltas])
        if self._ended and not self.finished and self._error is None:
            self._error = _malformed("The provider ended its stream without a finish reason.")
        return Scan(
            out=self._renderer.render(decoded.deltas),
            content_events=content_events,
            finished=self.finished,
            ended=self._ended,
            error=self._error,
        )

    def _learn(self, delta: ChatDelta) -> bool:
        """Take in one delta; return whether it has content."""
        self.model = self.model or delta.model
        self.usage = delta.usage or self.usage
        pieces = [delta.text or "", delta.reasoning or "", delta.refusal or ""]
        if delta.tool is not None:
            pieces += [delta.tool.name or "", delta.tool.arguments]
        content_bytes = sum(len(piece.encode()) for piece in pieces)
        self.content_bytes += content_bytes
        if delta.finish is not None:
            self._done[delta.choice] = True
        elif content_bytes:
            self._done.setdefault(delta.choice, False)
        self.finished = bool(self._done) and all(self._done.values())
        return content_bytes > 0


def _malformed(message: str) -> UpstreamError:
    return UpstreamError(FailureKind.MALFORMED, message)
