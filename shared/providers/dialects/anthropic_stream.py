"""Anthropic's event stream as deltas, however its bytes are cut."""

from collections.abc import Mapping
from typing import Any

import msgspec
from typing_extensions import override

from shared.chat.response import ChatDelta, ReasoningDelta, ToolDelta
from shared.providers.decoding import PartDecoder
from shared.providers.dialects.anthropic_errors import error_inside, error_of
from shared.providers.dialects.anthropic_read import (
    DIALECT,
    UNREADABLE,
    annotations_of,
    arguments_of,
    extra_of,
    finish_of,
    free_text,
    malformed,
    parse_response,
    read_block,
    type_of,
)
from shared.providers.dialects.anthropic_usage import merged, usage_from
from shared.providers.dialects.anthropic_wire import (
    WireBlock,
    WireDelta,
    WireEvent,
    WireMessage,
)
from shared.providers.dialects.sse import SseEvent, SseParser
from shared.providers.head import refuse_stream
from shared.providers.translation import Asked, TargetDialect

decode_event = msgspec.json.Decoder(WireEvent).decode
_READ = frozenset({
    "message_start", "content_block_start", "content_block_delta", "content_block_stop",
    "message_delta", "message_stop", "error",
})  # fmt: skip
_NOTHING: list[ChatDelta] = []


class AnthropicDecoder(PartDecoder[SseEvent]):
    """Turns the bytes of one stream into deltas."""

    def __init__(self, asked: Asked) -> None:
        super().__init__(SseParser())
        self._blocks = _Blocks(asked)
        self._head = WireMessage()
        self._counts: Mapping[str, object] = {}

    @override
    def _read(self, part: SseEvent, deltas: list[ChatDelta]) -> bool:
        wire = read_event(part)
        deltas += self._event(wire)
        return wire.type == "message_stop"

    def _event(self, wire: WireEvent) -> list[ChatDelta]:
        match wire.type:
            case "content_block_delta" if wire.delta is not None:
                return self._blocks.delta(wire.index, wire.delta)
            case "content_block_start":
                return self._blocks.start(wire.index, wire.content_block)
            case "content_block_stop":
                return self._blocks.stop(wire.index)
            case "message_start" if wire.message is not None:
                return self._start(wire.message)
            case "message_delta":
                return self._end(wire.delta or WireDelta(), wire.usage)
            case _:
                return _NOTHING  # ping, and what is not known yet

    def _start(self, head: WireMessage) -> list[ChatDelta]:
        self._head = head
        self._counts = merged({}, head.usage)
        usage = usage_from(self._counts, estimated=True)
        return [ChatDelta(id=head.id, model=head.model, usage=usage)]

    def _end(self, delta: WireDelta, counts: object) -> list[ChatDelta]:
        self._counts = merged(self._counts, counts)
        deltas = []
        if counts is not None and (usage := usage_from(self._counts)) is not None:
            deltas.append(ChatDelta(usage=usage))
        if delta.stop_reason is not None:
            deltas += self._blocks.flush()
            if delta.stop_details is not None and delta.stop_details.explanation:
                deltas.append(ChatDelta(refusal=delta.stop_details.explanation))
            finish = finish_of(delta.stop_reason, only_json=self._blocks.only_json)
            extra = extra_of(self._head, self._blocks.others) or None
            deltas.append(ChatDelta(finish=finish, stop_sequence=delta.stop_sequence, extra=extra))
        return deltas


class _Blocks:
    """The content blocks of a stream. Calls and thoughts are counted apart, from 0."""

    def __init__(self, asked: Asked) -> None:
        self.others: list[Mapping[str, Any]] = []
        self._asked = asked
        self._open: dict[int, _Block] = {}
        self._calls = 0
        self._thoughts = 0
        self._text_length = 0
        self._wrote_json = False
        self._held: list[str] = []
        """Text that counts only if the tool that stands for JSON is not called."""

    @property
    def only_json(self) -> bool:
        """Whether the tool that stands for JSON was called, and no other."""
        return self._wrote_json and not self._calls

    def flush(self) -> list[ChatDelta]:
        """Return the text that was held back, if it is the answer."""
        held, self._held = self._held, []
        return [ChatDelta(text=text) for text in held if not self._wrote_json]

    def start(self, index: int, raw: msgspec.Raw) -> list[ChatDelta]:
        block = read_block(raw)
        opened = self._open[index] = _Block(type=block.type, text_from=self._text_length)
        match block.type:
            case "text":
                opened.citations += block.citations or ()
                return self._text(block.text or "")
            case "thinking":
                opened.number, self._thoughts = self._thoughts, self._thoughts + 1
                return _thought(opened.number, text=block.thinking, signature=block.signature)
            case "redacted_thinking":
                number, self._thoughts = self._thoughts, self._thoughts + 1
                redacted = ReasoningDelta(
                    index=number, signature=block.data, redacted=True, dialect=DIALECT
                )
                return [ChatDelta(reasoning=redacted)]
            case "tool_use":
                return self._call(opened, block)
            case _:
                opened.other = msgspec.json.decode(raw)
                self.others.append(opened.other)
                return _NOTHING

    def delta(self, index: int, delta: WireDelta) -> list[ChatDelta]:
        block = self._open.get(index)
        if block is None:
            return _NOTHING
        match delta.type:
            case "text_delta":
                return self._text(delta.text or "")
            case "input_json_delta" if delta.partial_json and block.type == "tool_use":
                return self._arguments(block, delta.partial_json)
            case "input_json_delta" if delta.partial_json:
                block.pieces.append(delta.partial_json)  # of a tool that Anthropic itself runs
            case "thinking_delta":
                return _thought(block.number, text=delta.thinking)
            case "signature_delta":
                return _thought(block.number, signature=delta.signature)
            case "citations_delta" if delta.citation is not None:
                block.citations.append(delta.citation)
        return _NOTHING

    def stop(self, index: int) -> list[ChatDelta]:
        block = self._open.pop(index, None)
        if block is None:
            return _NOTHING
        if block.type == "tool_use":
            return self._close_call(block)
        if block.other is not None and block.pieces:
            block.other["input"] = _value("".join(block.pieces))
        if block.citations and self._asked.json_tool is None:
            annotations = annotations_of(
                block.citations, start=block.text_from, end=self._text_length
            )
            return [ChatDelta(annotations=annotations)]
        return _NOTHING

    def _text(self, text: str) -> list[ChatDelta]:
        self._text_length += len(text)
        if not text:
            return _NOTHING
        if self._asked.json_tool is not None:
            self._held.append(text)
            return _NOTHING
        return [ChatDelta(text=text)]

    def _call(self, opened: "_Block", block: WireBlock) -> list[ChatDelta]:
        name = block.name or ""
        opened.input = block.input
        if name == self._asked.json_tool:
            opened.is_json = True
            # A second one would make two answers.
            opened.silent, self._wrote_json = self._wrote_json, True
            return _NOTHING
        opened.is_custom = name in self._asked.custom_tools
        opened.number, self._calls = self._calls, self._calls + 1
        tool = ToolDelta(
            index=opened.number,
            id=block.id,
            name=self._asked.tool_names.get(name, name),
            kind="custom" if opened.is_custom else "function",
        )
        return [ChatDelta(tool=tool)]

    def _arguments(self, block: "_Block", piece: str) -> list[ChatDelta]:
        block.has_arguments = True
        if block.silent:
            return _NOTHING
        if block.is_json:
            return [ChatDelta(text=piece)]
        if block.is_custom:
            # The text inside the JSON is known when the JSON is whole.
            block.pieces.append(piece)
            return _NOTHING
        return [ChatDelta(tool=ToolDelta(index=block.number, arguments=piece))]

    def _close_call(self, block: "_Block") -> list[ChatDelta]:
        if block.is_custom:
            text = free_text("".join(block.pieces) or arguments_of(block.input))
            tool = ToolDelta(index=block.number, arguments=text, kind="custom")
            return [ChatDelta(tool=tool)]
        if block.has_arguments:
            return _NOTHING
        # Clients parse the arguments, and nothing is not JSON.
        return self._arguments(block, arguments_of(block.input))


class _Block:
    """A block under way."""

    def __init__(self, *, type: str, text_from: int) -> None:  # noqa: A002 (the wire's word)
        self.type = type
        self.text_from = text_from
        self.number = 0
        self.citations: list[Mapping[str, Any]] = []
        self.input = msgspec.Raw()
        self.other: dict[str, Any] | None = None
        self.pieces: list[str] = []
        self.has_arguments = False
        self.is_json = False
        self.is_custom = False
        self.silent = False


def read_event(event: SseEvent, secret: str | None = None) -> WireEvent:
    """Return one event of a stream; the secret never stands in its error.

    Raises:
        UpstreamError: MALFORMED when it is none, or what an error event says.
    """
    if event.name == b"error":
        raise error_inside(event.data, secret)
    try:
        wire = decode_event(event.data)
    except UNREADABLE as error:
        kind = type_of(event.data)
        if kind is None or kind in _READ:
            raise malformed("The provider's stream holds an event that is none.") from error
        return WireEvent(type=kind)  # not known yet
    if wire.error:
        raise error_inside(event.data, secret)
    if wire.type == "message":
        raise malformed("The provider answered a stream with a whole answer.")
    return wire


def _value(text: str) -> object:
    """Return what a JSON text says; one that was cut off stays a text."""
    try:
        return msgspec.json.decode(text)
    except UNREADABLE:
        return text


def _thought(
    number: int, *, text: str | None = None, signature: str | None = None
) -> list[ChatDelta]:
    if not text and not signature:
        return _NOTHING
    piece = ReasoningDelta(
        index=number, text=text or "", signature=signature or None, dialect=DIALECT
    )
    return [ChatDelta(reasoning=piece)]


MESSAGES = TargetDialect(
    name=DIALECT,
    parse_response=parse_response,
    error_of=error_of,
    refuse_head=refuse_stream,
    decoder=AnthropicDecoder,
)
"""Anthropic's Messages, and what imitates them."""
