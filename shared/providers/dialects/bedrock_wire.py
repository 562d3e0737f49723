"""The JSON of Bedrock's Converse answers as Structs, whole and in events of a stream."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar

import msgspec

from shared.providers.dialects.counts import count_in, parts_in, text_in, without_odd_counts

_Count = Annotated[int, msgspec.Meta(ge=0)]


class ReasoningText(msgspec.Struct, rename="camel"):
    """A thought in plain text."""

    text: str = ""
    signature: str | None = None


class ReasoningContent(msgspec.Struct, rename="camel"):
    """A thought, in plain text or (base64) not."""

    reasoning_text: ReasoningText | None = None
    redacted_content: str | None = None


class ToolUse(msgspec.Struct, rename="camel"):
    """A tool call; in a stream its `input` comes in pieces of text."""

    tool_use_id: str = ""
    name: str = ""
    input: Any = None


class CitedText(msgspec.Struct, rename="camel"):
    """A piece of an answer that is backed by sources."""

    text: str = ""


class CitationsContent(msgspec.Struct, rename="camel"):
    """Text with its sources, which are kept in Bedrock's words."""

    content: list[CitedText] = []
    citations: list[dict[str, Any]] = []


class ContentBlock(msgspec.Struct, rename="camel"):
    """One of these; others are passed over."""

    text: str | None = None
    tool_use: ToolUse | None = None
    reasoning_content: ReasoningContent | None = None
    citations_content: CitationsContent | None = None


class Message(msgspec.Struct, rename="camel"):
    """The assistant's turn."""

    content: list[ContentBlock] = []


class Output(msgspec.Struct, rename="camel"):
    """What stands around it."""

    message: Message | None = None


class CacheDetail(msgspec.Struct, rename="camel"):
    """The part of the cache writes that is kept for `ttl`."""

    ttl: str = ""
    input_tokens: _Count | None = None


class TokenUsage(msgspec.Struct, rename="camel"):
    """Counts; `input_tokens` without those read from and written to the cache."""

    input_tokens: _Count | None = None
    output_tokens: _Count | None = None
    cache_read_input_tokens: _Count | None = None
    cache_write_input_tokens: _Count | None = None
    cache_details: list[CacheDetail] | None = None


class ServiceTier(msgspec.Struct, rename="camel"):
    """The tier that served."""

    type: str | None = None


class Besides(msgspec.Struct, rename="camel"):
    """What comes with the usage, in the whole answer or in the stream's last event."""

    usage: TokenUsage | None = None
    service_tier: ServiceTier | None = None
    trace: dict[str, Any] | None = None
    performance_config: dict[str, Any] | None = None
    additional_model_response_fields: Any = None


class Answer(Besides, rename="camel"):
    """A whole answer."""

    output: Output | None = None
    stop_reason: str | None = None


class BlockStart(msgspec.Struct, rename="camel"):
    """How a tool call begins; text and thoughts begin without."""

    tool_use: ToolUse | None = None


class ReasoningPiece(msgspec.Struct, rename="camel"):
    """A piece of a thought."""

    text: str | None = None
    signature: str | None = None
    redacted_content: str | None = None


class ToolPiece(msgspec.Struct, rename="camel"):
    """A piece of a tool call's input, as text."""

    input: str = ""


class BlockDelta(msgspec.Struct, rename="camel"):
    """One of these; others are passed over."""

    text: str | None = None
    tool_use: ToolPiece | None = None
    reasoning_content: ReasoningPiece | None = None
    citation: dict[str, Any] | None = None


class Event(Besides, rename="camel"):
    """The payload of any event of a stream."""

    content_block_index: int = 0
    start: BlockStart | None = None
    delta: BlockDelta | None = None
    stop_reason: str | None = None


_Counted = TypeVar("_Counted", bound=Besides)


def leniently(strictly: Callable[[bytes], _Counted]) -> Callable[[bytes], _Counted]:
    """Return a decoder that leaves out what is no count instead of refusing the whole answer."""
    return without_odd_counts(strictly, "usage", _keep)


def _keep(answer: Besides, usage: Mapping[str, object] | None) -> None:
    answer.usage = None if usage is None else _cleaned(usage)


def _cleaned(usage: Mapping[str, object]) -> TokenUsage:
    details = [
        CacheDetail(ttl=text_in(part, "ttl") or "", input_tokens=count_in(part, "inputTokens"))
        for part in parts_in(usage, "cacheDetails")
    ]
    return TokenUsage(
        input_tokens=count_in(usage, "inputTokens"),
        output_tokens=count_in(usage, "outputTokens"),
        cache_read_input_tokens=count_in(usage, "cacheReadInputTokens"),
        cache_write_input_tokens=count_in(usage, "cacheWriteInputTokens"),
        cache_details=details,
    )
