"""The JSON of Anthropic's answers and stream events as Structs, lenient towards what is new."""

from typing import Any

import msgspec


class Typed(msgspec.Struct):
    """What any block or event has."""

    type: str


class WireBlock(msgspec.Struct, gc=False):
    """A content block of an answer, or the start of one."""

    type: str = ""
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    id: str | None = None
    name: str | None = None
    input: msgspec.Raw = msgspec.Raw()
    citations: list[dict[str, Any]] | None = None


class StopDetails(msgspec.Struct, gc=False):
    """Why the model refused."""

    explanation: str | None = None


class WireMessage(msgspec.Struct):
    """A whole answer, or the head of a stream."""

    type: str | None = None
    id: str | None = None
    model: str | None = None
    content: list[msgspec.Raw] | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None
    stop_details: StopDetails | None = None
    usage: Any = None
    container: Any = None
    context_management: Any = None


class WireDelta(msgspec.Struct, gc=False):
    """What a delta event brings: a piece of a block, or how the message ended."""

    type: str = ""
    text: str | None = None
    partial_json: str | None = None
    thinking: str | None = None
    signature: str | None = None
    citation: dict[str, Any] | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None
    stop_details: StopDetails | None = None


class WireEvent(msgspec.Struct, gc=False):
    """One event of a stream."""

    type: str = ""
    index: int = 0
    delta: WireDelta | None = None
    content_block: msgspec.Raw = msgspec.Raw()
    message: WireMessage | None = None
    usage: Any = None
    error: Any = None
