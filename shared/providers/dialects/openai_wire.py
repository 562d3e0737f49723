"""The JSON of OpenAI's chat as Structs, lenient where its imitators differ."""

from typing import Any

import msgspec


class ImageUrl(msgspec.Struct, omit_defaults=True):
    """`image_url` of a part."""

    url: str
    detail: str | None = None


class InputAudio(msgspec.Struct):
    """`input_audio` of a part."""

    data: str
    format: str


class File(msgspec.Struct, omit_defaults=True):
    """`file` of a part."""

    file_id: str | None = None
    filename: str | None = None
    file_data: str | None = None


class WirePart(msgspec.Struct, omit_defaults=True):
    """An element of a message's content list."""

    type: str
    text: str | None = None
    image_url: ImageUrl | str | None = None
    input_audio: InputAudio | None = None
    file: File | None = None
    refusal: str | None = None
    cache_control: Any = None


class Called(msgspec.Struct, omit_defaults=True):
    """`function` or `custom` of a tool call, whole or in pieces."""

    name: str | None = None
    arguments: str | None = None
    input: str | None = None


class WireCall(msgspec.Struct, omit_defaults=True):
    """A tool call, whole or in pieces."""

    index: int | None = None
    id: str | None = None
    type: str | None = None
    function: Called | None = None
    custom: Called | None = None
    extra_content: dict[str, Any] | None = None


class WireMessage(msgspec.Struct, omit_defaults=True):
    """A message of a request, a message of an answer, or the delta of a stream."""

    role: str | None = None
    content: str | list[WirePart] | None = None
    name: str | None = None
    tool_calls: list[WireCall] | None = None
    function_call: Called | None = None
    tool_call_id: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_details: Any = None
    annotations: list[dict[str, Any]] | None = None
    images: Any = None


class WireFunction(msgspec.Struct, omit_defaults=True):
    """`function` of a declared tool; `custom` has `format` instead of `parameters`."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    format: dict[str, Any] | None = None


class WireTool(msgspec.Struct, omit_defaults=True):
    """A declared tool."""

    type: str = "function"
    function: WireFunction | None = None
    custom: WireFunction | None = None
    cache_control: Any = None


class WireSchema(msgspec.Struct, omit_defaults=True):
    """`json_schema` of a response format."""

    name: str
    description: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None


class WireFormat(msgspec.Struct):
    """`response_format`."""

    type: str
    json_schema: WireSchema | None = None


class WireStreamOptions(msgspec.Struct):
    """`stream_options`."""

    include_usage: bool | None = None


class WireRequest(msgspec.Struct):
    """The fields of a chat request that have a word in the canonical language."""

    model: str
    messages: list[WireMessage]
    tools: list[WireTool] | None = None
    tool_choice: str | dict[str, Any] | None = None
    functions: list[WireFunction] | None = None
    function_call: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    response_format: WireFormat | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    n: int | None = None
    top_k: int | None = None
    reasoning_effort: str | None = None
    user: str | None = None
    metadata: dict[str, Any] | None = None
    service_tier: str | None = None
    stream: bool | None = None
    stream_options: WireStreamOptions | None = None


class WireChoice(msgspec.Struct):
    """A choice of a whole answer, or of a chunk."""

    index: int | None = 0
    message: WireMessage | None = None
    delta: WireMessage | None = None
    finish_reason: str | None = None
    logprobs: Any = None


class WireAnswer(msgspec.Struct):
    """A whole answer, or a chunk of a stream."""

    id: str | None = None
    created: int | float | None = None
    model: str | None = None
    choices: list[WireChoice] | None = None
    usage: Any = None
    service_tier: Any = None
    system_fingerprint: Any = None
    x_groq: Any = None
    error: Any = None
