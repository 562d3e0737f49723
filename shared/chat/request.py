"""What a caller asks of a model, in no vendor's words."""

from collections.abc import Mapping
from typing import Literal

import msgspec

from shared.chat.message import CacheMark, Message


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """Something the model may call. `parameters` is a JSON Schema, `format` a custom tool's.

    A `hosted` tool runs at the provider (web search, code); `format` is then its whole declaration
    in the words of the request's dialect, and `name` its type.
    """

    name: str
    description: str | None = None
    parameters: Mapping[str, object] | None = None
    strict: bool | None = None
    kind: Literal["function", "custom", "hosted"] = "function"
    format: Mapping[str, object] | None = None
    cache: CacheMark | None = None


class ToolChoice(msgspec.Struct, frozen=True, kw_only=True):
    """Whether tools are to be called. `named` needs `name`; `allowed` narrows auto and required."""

    mode: Literal["auto", "none", "required", "named"]
    name: str | None = None
    kind: Literal["function", "custom"] = "function"
    allowed: tuple[str, ...] = ()


class ResponseFormat(msgspec.Struct, frozen=True, kw_only=True):
    """The form of the answer's text; the other fields belong to `json_schema`."""

    kind: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    description: str | None = None
    schema: Mapping[str, object] | None = None
    strict: bool | None = None


class Sampling(msgspec.Struct, frozen=True, kw_only=True):
    """How tokens are drawn and how many; None leaves it to the provider."""

    temperature: float | None = None
    top_p: float | None = None
    max_output_tokens: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: Mapping[str, float] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    n: int | None = None
    top_k: int | None = None


class Thinking(msgspec.Struct, frozen=True, kw_only=True):
    """How much is to be thought before the answer; None leaves it to the provider.

    `effort` is a word from none, minimal, low, medium, high, xhigh, max; `budget_tokens` bounds it
    in tokens where the caller's dialect counts them. `enabled` is the switch of its own that some
    dialects have. `summary` asks to see the thoughts: auto, concise, detailed; omitted hides them.
    """

    effort: str | None = None
    budget_tokens: int | None = None
    enabled: bool | None = None
    summary: str | None = None


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One question.

    `extra` keeps fields that have no word here, for providers that know them; they are words of
    `dialect`, the caller's. `lost` names those that no provider but the dialect's own could follow.
    `echo` is what the answer repeats of its question. `functions`: the caller knows only OpenAI's
    old words for tools, and reads a call in them alone.
    """

    model: str
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    sampling: Sampling = Sampling()
    thinking: Thinking | None = None
    user: str | None = None
    metadata: Mapping[str, object] | None = None
    service_tier: str | None = None
    stream: bool = False
    include_usage: bool = False
    dialect: str = "openai"
    extra: Mapping[str, object] = {}
    lost: tuple[str, ...] = ()
    echo: Mapping[str, object] = {}
    functions: bool = False
