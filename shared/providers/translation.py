"""Asking in one dialect what was asked in another: the canonical chat stands between them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

from shared.chat.request import ChatRequest
from shared.chat.response import ChatDelta, ChatResponse
from shared.chat.usage import Usage
from shared.errors import FailureKind, UnsupportedParameter, UpstreamError
from shared.providers.exchange import SUCCESS, HttpRequest, HttpResponse, Reply, Scan
from shared.providers.head import refuse_body
from shared.providers.hiding import without_secret
from shared.providers.target import Target


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


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What of a question its answer must be read with.

    `tool_names` and `call_ids` turn the provider's names and ids back into the caller's, where they
    had to be changed. `json_tool` is the name of the tool that stands for a response format: its
    arguments are the answer's text. `custom_tools` are those that take free text, by the provider's
    names, where it had to be wrapped. `tools` says whether any were offered. `nonce` is this
    question's alone, for ids that the provider does not give.
    """

    model: str = ""
    tool_names: Mapping[str, str] = {}
    call_ids: Mapping[str, str] = {}
    json_tool: str | None = None
    custom_tools: frozenset[str] = frozenset()
    tools: bool = False
    nonce: str = ""


class Built(msgspec.Struct, frozen=True, kw_only=True):
    """A question in a provider's words; `body` is to be sent as JSON.

    `dropped` are the caller's fields that this provider cannot be asked, by the caller's names.
    """

    body: dict[str, object]
    asked: Asked = Asked()
    dropped: tuple[str, ...] = ()
    headers: Mapping[str, str] = {}


class TargetDialect(msgspec.Struct, frozen=True, kw_only=True):
    """A provider's wire format, read. `build` is called by its adapters, which know the quirks.

    `parse_response` raises UpstreamError: MALFORMED, or what an error inside a 2xx says. `error_of`
    is given the secret to keep it out. `refuse_head` decides about a stream's head. `tier_in` reads
    the service tier out of an answer's headers, where the provider may tell it there alone.
    """

    name: str
    parse_response: Callable[[bytes, Asked], ChatResponse]
    error_of: Callable[[HttpResponse, str | None], UpstreamError]
    refuse_head: Callable[[Mapping[str, str]], UpstreamError | None]
    decoder: Callable[[Asked], StreamDecoder]
    tier_in: Callable[[Mapping[str, str]], str | None] | None = None


class ServedDialect(msgspec.Struct, frozen=True, kw_only=True):
    """A dialect that callers speak. `parse_request` raises InvalidRequest, with `param`."""

    name: str
    parse_request: Callable[[bytes], ChatRequest]
    render_response: Callable[[ChatResponse, ChatRequest], bytes]
    renderer: Callable[[ChatRequest], DeltaRenderer]


def refuse_dropped(dropped: Sequence[str], target: Target) -> None:
    """Return if what the target cannot do may be left out, as its route says.

    Raises:
        UnsupportedParameter: `unsupported: error`; `param` is the first of them.
    """
    if dropped and target.unsupported == "error":
        raise UnsupportedParameter(
            f"{target.name} cannot do: {', '.join(dropped)}. Leave it out, or set "
            "`unsupported: drop` on the route.",
            param=dropped[0],
        )


def with_params(body: Mapping[str, object], *params: Mapping[str, object]) -> dict[str, object]:
    """Return the body, filled up with the operator's params where the caller said nothing.

    Of several the last counts: a target's before its provider's.
    """
    filled: dict[str, object] = {}
    for own in params:
        filled |= own
    return {**filled, **body}


class TranslatingExchange:
    """One attempt against a target that speaks another dialect than the caller."""

    def __init__(
        self,
        *,
        request: HttpRequest,
        chat: ChatRequest,
        served: ServedDialect,
        target: TargetDialect,
        built: Built,
        secret: str | None = None,
    ) -> None:
        self.request = request
        self.dropped = tuple(dict.fromkeys((*chat.lost, *built.dropped)))
        self._chat = chat
        self._served = served
        self._target = target
        self._asked = built.asked
        self._secret = secret
        self._scanner: TranslatingScanner | None = None

    def read(self, response: HttpResponse) -> Reply:
        """Turn a 2xx answer into the served dialect."""
        refused = refuse_body(response.headers)
        if refused is not None:
            raise refused
        try:
            answer = self._target.parse_response(response.body, self._asked)
        except UpstreamError as error:
            raise without_secret(error, self._secret) from None
        if self._target.tier_in is not None:
            answer = _with_tier(answer, self._target.tier_in(response.headers))
        finish = answer.choices[0].finish if answer.choices else None
        return Reply(
            body=self._served.render_response(answer, self._chat),
            model=answer.model or None,
            usage=answer.billed or answer.usage,
            finish_reason=None if finish is None else finish.value,
        )

    def error_of(self, response: HttpResponse) -> UpstreamError:
        """Turn any other answer into a failure."""
        return self._target.error_of(response, self._secret)

    def refuse_head(self, status: int, headers: Mapping[str, str]) -> UpstreamError | None:
        """Refuse a stream at the door: None for a 2xx stream, else why not."""
        if status not in SUCCESS:
            return self.error_of(HttpResponse(status=status, headers=headers, body=b""))
        if self._target.tier_in is not None and self._scanner is not None:
            self._scanner.service_tier = self._target.tier_in(headers)
        return self._target.refuse_head(headers)

    def scanner(self) -> "TranslatingScanner":
        """Return a fresh scanner for this exchange's stream."""
        self._scanner = TranslatingScanner(
            self._target.decoder(self._asked),
            self._served.renderer(self._chat),
            secret=self._secret,
        )
        return self._scanner


def _with_tier(answer: ChatResponse, tier: str | None) -> ChatResponse:
    """Return the answer with the tier that its head told, unless its counts name one."""
    usage = answer.usage
    if tier is None or usage is None or usage.service_tier is not None:
        return answer
    return msgspec.structs.replace(answer, usage=msgspec.structs.replace(usage, service_tier=tier))


class TranslatingScanner:
    """A provider's stream in, the caller's stream out. No error of it tells the `secret`."""

    def __init__(
        self, decoder: StreamDecoder, renderer: DeltaRenderer, *, secret: str | None = None
    ) -> None:
        self.model: str | None = None
        self.usage: Usage | None = None
        self.finished = False
        self.content_bytes = 0
        self.service_tier: str | None = None
        self._decoder = decoder
        self._renderer = renderer
        self._secret = secret
        self._told: Usage | None = None
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
        """Return the usage chunk, if asked and anything is known, and the end mark."""
        return self._renderer.closing(self._told or self.usage, cost_usd)

    def _take(self, decoded: Decoded) -> Scan:
        self._ended = decoded.ended
        if decoded.error is not None:
            self._error = without_secret(decoded.error, self._secret)
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
        if delta.service_tier is not None:
            self.service_tier = delta.service_tier
        if delta.usage is not None:
            self.usage = delta.billed or delta.usage
            self._told = delta.usage
        pieces = [delta.text or "", delta.refusal or ""]
        if delta.reasoning is not None:
            pieces.append(delta.reasoning.text)
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
