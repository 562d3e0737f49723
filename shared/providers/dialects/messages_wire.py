"""The JSON of Anthropic's Messages as callers send it."""

from typing import Any

import msgspec


class WireSource(msgspec.Struct):
    """Where an image or a document lies."""

    type: str
    media_type: str | None = None
    data: str | None = None
    url: str | None = None
    file_id: str | None = None
    content: "str | list[WireBlock] | None" = None


class WireBlock(msgspec.Struct):
    """A content block of any type; which fields belong to which is known below."""

    type: str
    text: str | None = None
    source: WireSource | str | None = None
    title: str | None = None
    context: str | None = None
    id: str | None = None
    name: str | None = None
    input: msgspec.Raw = msgspec.Raw()
    tool_use_id: str | None = None
    content: Any = None
    is_error: bool | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    extra_content: dict[str, Any] | None = None
    cache_control: dict[str, Any] | None = None


class WireTurn(msgspec.Struct):
    """A message."""

    role: str
    content: str | list[WireBlock] | None = None


class WireTool(msgspec.Struct):
    """A declared tool; hosted ones have fields of their own."""

    name: str | None = None
    type: str | None = None
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    strict: bool | None = None
    cache_control: dict[str, Any] | None = None


class WireChoice(msgspec.Struct):
    """`tool_choice`."""

    type: str
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class WireThinking(msgspec.Struct):
    """`thinking`."""

    type: str
    budget_tokens: int | None = None
    display: str | None = None


class WireFormat(msgspec.Struct):
    """The form of the answer."""

    type: str
    schema: dict[str, Any] | None = None


class WireOutput(msgspec.Struct):
    """`output_config`."""

    effort: str | None = None
    format: WireFormat | None = None


class WireMetadata(msgspec.Struct):
    """`metadata`."""

    user_id: str | None = None


class WireAsked(msgspec.Struct):
    """The fields of a request that have a word in the canonical language."""

    model: str
    messages: list[WireTurn]
    max_tokens: int | None = None
    system: str | list[WireBlock] | None = None
    stop_sequences: list[str] | None = None
    stream: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    tools: list[WireTool] | None = None
    tool_choice: WireChoice | None = None
    thinking: WireThinking | None = None
    output_config: WireOutput | None = None
    output_format: WireFormat | None = None
    metadata: WireMetadata | None = None
    service_tier: str | None = None
