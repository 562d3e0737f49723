"""Relaying Anthropic's Messages: bytes go on as they came, and only what decides is looked at.

What leaves a stream has the event's name and its data, LF, nothing else. Held back until `closing`:
the end mark.
"""

from collections.abc import Mapping

import msgspec
from typing_extensions import override

from shared.chat.usage import Usage
from shared.errors import UpstreamError
from shared.providers.dialects.anthropic_errors import error_of
from shared.providers.dialects.anthropic_read import (
    UNREADABLE,
    finish_of,
    malformed,
    read_message,
)
from shared.providers.dialects.anthropic_stream import read_event
from shared.providers.dialects.anthropic_usage import merged, usage_from
from shared.providers.dialects.anthropic_wire import WireDelta, WireEvent
from shared.providers.dialects.foreign_thoughts import without_foreign
from shared.providers.dialects.sse import SseEvent
from shared.providers.dialects.sse_relay import EventRelay
from shared.providers.exchange import SUCCESS, HttpRequest, HttpResponse, Reply
from shared.providers.head import refuse_body, refuse_stream

COUNT_PATH = "/v1/messages/count_tokens"
_END = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class _Counted(msgspec.Struct):
    input_tokens: int


_decode_count = msgspec.json.Decoder(_Counted).decode


def rewrite(raw: bytes, *, model: str | None, params: Mapping[str, object]) -> bytes:
    """Return the caller's body with the upstream model's name, or without any.

    Other providers' thoughts are taken out of the history, for Anthropic refuses their signatures;
    all else stays byte for byte. `params` are the operator's: they fill in what was left out.
    """
    fields = _decode_fields(without_foreign(raw))
    for name, value in params.items():
        if name not in fields:
            fields[name] = _raw(value)
    del fields["model"]
    if model is not None:
        fields["model"] = _raw(model)
    return msgspec.json.encode(fields)


class MessagesRelay:
    """One attempt against a target that speaks Anthropic's dialect, asked in that dialect."""

    def __init__(self, *, request: HttpRequest, endpoint: str, secret: str | None = None) -> None:
        self.request = request
        self.dropped: tuple[str, ...] = ()
        self._counts = endpoint == COUNT_PATH
        self._secret = secret

    def read(self, response: HttpResponse) -> Reply:
        """Return the answer's bytes as they came. Counting tokens costs nothing.

        Raises:
            UpstreamError: MALFORMED when it is not a message, or what an error inside says.
        """
        refused = refuse_body(response.headers)
        if refused is not None:
            raise refused
        if self._counts:
            return _counted(response.body)
        message = read_message(response.body)
        reason = message.stop_reason
        return Reply(
            body=response.body,
            model=message.model or None,
            usage=usage_from(message.usage),
            finish_reason=None if reason is None else finish_of(reason, only_json=False).value,
        )

    def error_of(self, response: HttpResponse) -> UpstreamError:
        """Turn any other answer into a failure, decided by status and typed body."""
        return error_of(response, self._secret)

    def refuse_head(self, status: int, headers: Mapping[str, str]) -> UpstreamError | None:
        """Refuse a stream at the door: None for a 2xx event stream, else why not."""
        if status not in SUCCESS:
            return self.error_of(HttpResponse(status=status, headers=headers, body=b""))
        return refuse_stream(headers)

    def scanner(self) -> "MessagesScanner":
        """Return a fresh scanner for this exchange's stream."""
        return MessagesScanner(self._secret)


class MessagesScanner(EventRelay):
    """Passes on Anthropic's events; `message_stop` is their end mark."""

    def __init__(self, secret: str | None = None) -> None:
        super().__init__(secret)
        self._counts: Mapping[str, object] = {}

    @override
    def closing(self, cost_usd: str | None) -> bytes:
        """Return the end mark."""
        return _END

    @override
    def _take(self, event: SseEvent) -> bytes:
        wire = read_event(event, self._secret)
        if wire.type == "message_stop":
            self._ended = True
            if not self.finished:
                raise malformed("The provider ended its stream without a stop reason.")
            return b""
        self._learn(wire)
        lines = event.data.replace(b"\n", b"\ndata: ")
        return b"event: %b\ndata: %b\n\n" % (event.name or wire.type.encode(), lines)

    def _learn(self, wire: WireEvent) -> None:
        match wire.type:
            case "content_block_delta" if wire.delta is not None:
                self._count(_content_bytes(wire.delta))
            case "content_block_start":
                # A call counts before its arguments: its name is content.
                if b'"tool_use"' in bytes(wire.content_block):
                    self._count(1)
            case "message_start" if wire.message is not None:
                self.model = wire.message.model or None
                self._counts = merged({}, wire.message.usage)
                self.usage = usage_from(self._counts, estimated=True)
            case "message_delta":
                if wire.usage is not None:
                    self._counts = merged(self._counts, wire.usage)
                    self.usage = usage_from(self._counts)
                self.finished |= wire.delta is not None and wire.delta.stop_reason is not None
            case _:
                pass


def _content_bytes(delta: WireDelta) -> int:
    text = delta.text or delta.partial_json or delta.thinking or ""
    return len(text) if text.isascii() else len(text.encode())


def _counted(body: bytes) -> Reply:
    try:
        _decode_count(body)
    except UNREADABLE as error:
        raise malformed("The provider's answer holds no count of tokens.") from error
    return Reply(body=body, usage=Usage())


def _raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))
