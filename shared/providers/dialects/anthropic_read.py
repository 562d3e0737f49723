"""Whole answers of Anthropic in the canonical language."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from shared.chat.message import Reasoning, ToolCall
from shared.chat.response import ChatChoice, ChatResponse, FinishReason
from shared.errors import FailureKind, UpstreamError
from shared.providers.dialects.anthropic_errors import error_inside
from shared.providers.dialects.anthropic_usage import usage_from
from shared.providers.dialects.anthropic_wire import Typed, WireBlock, WireMessage
from shared.providers.translation import Asked

DIALECT = "anthropic"
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

FINISHES = {
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "pause_turn": FinishReason.STOP,
    "compaction": FinishReason.STOP,
    "tool_use": FinishReason.TOOL_CALLS,
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "refusal": FinishReason.CONTENT_FILTER,
}
"""Stop reasons; those not known yet mean stop."""

_decode = msgspec.json.Decoder(WireMessage).decode
_decode_block = msgspec.json.Decoder(WireBlock).decode
_decode_type = msgspec.json.Decoder(Typed).decode
_READ = frozenset({"text", "thinking", "redacted_thinking", "tool_use"})


def parse_response(body: bytes, asked: Asked) -> ChatResponse:
    """Return a whole answer.

    Raises:
        UpstreamError: MALFORMED when it is not one, or what an error inside says.
    """
    message = read_message(body)
    choice = _Choice(asked)
    for raw in message.content or ():
        choice.add(raw)
    return ChatResponse(
        id=message.id or "",
        model=message.model or asked.model,
        choices=(choice.result(message),),
        usage=usage_from(message.usage),
        extra=extra_of(message, choice.others),
    )


def read_message(body: bytes) -> WireMessage:
    """Return a whole answer as it came.

    Raises:
        UpstreamError: MALFORMED when it is not one, or what an error inside says.
    """
    try:
        message = _decode(body)
    except UNREADABLE as error:
        raise malformed("The provider's answer is not the JSON of a message.") from error
    if message.type == "error":
        raise error_inside(body)
    if message.content is None:
        raise malformed("The provider's answer has no `content`.")
    return message


def read_block(raw: msgspec.Raw) -> WireBlock:
    """Return a content block; of one that is not known yet only the type.

    Raises:
        UpstreamError: MALFORMED when it is none.
    """
    try:
        return _decode_block(raw)
    except UNREADABLE as error:
        kind = type_of(raw)
        if kind is None or kind in _READ:
            raise malformed("The provider's answer holds a block that is none.") from error
    return WireBlock(type=kind)


def type_of(raw: bytes | msgspec.Raw) -> str | None:
    """Return the `type` of an object, None for what is no object with a type."""
    try:
        return _decode_type(raw).type
    except UNREADABLE:
        return None


def extra_of(message: WireMessage, blocks: Iterable[Mapping[str, Any]]) -> dict[str, object]:
    """Return what has no word in other dialects: work of Anthropic's own tools, containers."""
    found = {
        "content_blocks": list(blocks),
        "container": message.container,
        "context_management": message.context_management,
    }
    return {name: value for name, value in found.items() if value}


def finish_of(reason: str, *, only_json: bool) -> FinishReason:
    """Return the canonical reason; a call of the tool that stands for JSON is no call."""
    finish = FINISHES.get(reason, FinishReason.STOP)
    if finish is FinishReason.TOOL_CALLS and only_json:
        return FinishReason.STOP
    return finish


def annotations_of(
    citations: Iterable[Mapping[str, Any]], *, start: int, end: int
) -> tuple[Mapping[str, object], ...]:
    """Return citations as OpenAI's annotations of the text between two characters.

    Places in the caller's own documents have no word there and stand as they came.
    """
    return tuple(_annotation(citation, start, end) for citation in citations)


def _annotation(citation: Mapping[str, Any], start: int, end: int) -> Mapping[str, object]:
    if isinstance(citation.get("url"), str):
        cited = {
            "url": citation["url"],
            "title": citation.get("title") or "",
            "start_index": start,
            "end_index": end,
        }
        return {"type": "url_citation", "url_citation": cited}
    return {"type": "citation", "citation": {**citation, "start_index": start, "end_index": end}}


def arguments_of(raw: msgspec.Raw) -> str:
    """Return a call's input as compact JSON text; none is an object without fields."""
    if not raw:
        return "{}"
    return msgspec.json.format(bytes(raw), indent=-1).decode()


def free_text(arguments: str) -> str:
    """Return the text that a custom tool's call was wrapped around; as it came if it was not."""
    try:
        found = msgspec.json.decode(arguments)
    except UNREADABLE:
        return arguments
    if isinstance(found, dict) and isinstance(found.get("input"), str):
        return str(found["input"])
    return arguments


def malformed(message: str) -> UpstreamError:
    """Return the failure of an answer that is none."""
    return UpstreamError(FailureKind.MALFORMED, message)


class _Choice:
    """The blocks of an answer, sorted."""

    def __init__(self, asked: Asked) -> None:
        self.others: list[Mapping[str, Any]] = []
        self._asked = asked
        self._texts: list[str] = []
        self._json: list[str] = []
        self._thoughts: list[Reasoning] = []
        self._calls: list[ToolCall] = []
        self._annotations: list[Mapping[str, object]] = []

    def add(self, raw: msgspec.Raw) -> None:
        block = read_block(raw)
        match block.type:
            case "text":
                self._text(block)
            case "thinking" if block.thinking or block.signature:
                self._thoughts.append(
                    Reasoning(
                        text=block.thinking or "",
                        signature=block.signature or None,
                        dialect=DIALECT,
                    )
                )
            case "redacted_thinking":
                self._thoughts.append(
                    Reasoning(signature=block.data, redacted=True, dialect=DIALECT)
                )
            case "tool_use":
                self._call(block)
            case "thinking":
                pass  # neither words nor a proof
            case _:
                self.others.append(msgspec.json.decode(raw))

    def result(self, message: WireMessage) -> ChatChoice:
        text: str | None = "".join(self._texts) if self._texts else None
        if self._json:
            text = self._json[0]
        details = message.stop_details
        finish = None
        if message.stop_reason is not None:
            finish = finish_of(message.stop_reason, only_json=bool(self._json) and not self._calls)
        return ChatChoice(
            text=text,
            reasoning=tuple(self._thoughts),
            refusal=None if details is None else details.explanation,
            tool_calls=tuple(self._calls),
            finish=finish,
            stop_sequence=message.stop_sequence,
            annotations=() if self._json else tuple(self._annotations),
        )

    def _text(self, block: WireBlock) -> None:
        start = sum(map(len, self._texts))
        text = block.text or ""
        self._texts.append(text)
        self._annotations += annotations_of(
            block.citations or (), start=start, end=start + len(text)
        )

    def _call(self, block: WireBlock) -> None:
        arguments = arguments_of(block.input)
        name = block.name or ""
        if name == self._asked.json_tool:
            self._json.append(arguments)
            return
        custom = name in self._asked.custom_tools
        self._calls.append(
            ToolCall(
                id=block.id or "",
                name=self._asked.tool_names.get(name, name),
                arguments=free_text(arguments) if custom else arguments,
                kind="custom" if custom else "function",
            )
        )
