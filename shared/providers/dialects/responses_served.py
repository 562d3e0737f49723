"""OpenAI's Responses as callers speak them: requests in."""

from collections.abc import Mapping
from typing import Any

import msgspec

from shared.chat.message import Message, TextPart
from shared.chat.request import ChatRequest, Sampling, Thinking
from shared.errors import InvalidRequest, UnsupportedParameter
from shared.providers.dialects.responses_items import messages_of
from shared.providers.dialects.responses_tools import choice_of, format_of, tool_of
from shared.providers.dialects.wrong_form import wrong_form

LOGPROBS = "message.output_text.logprobs"


class WireText(msgspec.Struct):
    """`text`."""

    format: dict[str, Any] | None = None
    verbosity: str | None = None


class WireReasoning(msgspec.Struct):
    """`reasoning`."""

    effort: str | None = None
    summary: str | None = None
    generate_summary: str | None = None


class WireRequest(msgspec.Struct):
    """The fields of a request; what is not here is unknown."""

    model: str
    input: str | list[Any] = []
    instructions: str | list[Any] | None = None
    tools: list[Any] | None = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    text: WireText | None = None
    reasoning: WireReasoning | None = None
    max_output_tokens: int | None = None
    max_tool_calls: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_logprobs: int | None = None
    include: list[str] | None = None
    metadata: dict[str, Any] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    service_tier: str | None = None
    truncation: str | None = None
    store: bool | None = None
    stream: bool | None = None
    stream_options: Any = None
    previous_response_id: str | None = None
    background: bool | None = None
    conversation: Any = None
    prompt: Any = None
    context_management: Any = None
    moderation: Any = None


_decode = msgspec.json.Decoder(WireRequest).decode
_decode_fields = msgspec.json.Decoder(dict[str, object]).decode
_KNOWN = frozenset(WireRequest.__struct_fields__)
_CHAT_HAS = ("prompt_cache_key", "prompt_cache_retention", "safety_identifier")
"""Fields that OpenAI's chat knows by the same name."""
_UNKNOWN_ELSEWHERE = ("conversation", "prompt")
"""They stand for words that only their vendor has, without which the question is another."""


def parse_request(raw: bytes) -> ChatRequest:
    """Return a caller's request in the canonical language.

    Raises:
        InvalidRequest: a field is missing or of the wrong form; `param` names it where it can.
        UnsupportedParameter: the question stands somewhere that only OpenAI can read.
    """
    try:
        wire = _decode(raw)
        fields = _decode_fields(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise wrong_form(error, "a request for a response") from error
    for name in _UNKNOWN_ELSEWHERE:
        if getattr(wire, name) is not None:
            raise UnsupportedParameter(f"This model cannot be given a `{name}`.", param=name)
    thinking = wire.reasoning
    return ChatRequest(
        model=wire.model,
        messages=_messages(wire),
        tools=tuple(tool_of(tool, at) for at, tool in enumerate(wire.tools or ())),
        tool_choice=choice_of(wire.tool_choice),
        parallel_tool_calls=wire.parallel_tool_calls,
        response_format=None if wire.text is None else format_of(wire.text.format),
        sampling=_sampling(wire),
        thinking=None if thinking is None else _thinking(thinking),
        user=wire.user,
        metadata=wire.metadata,
        service_tier=wire.service_tier,
        stream=bool(wire.stream),
        include_usage=True,
        dialect="openai_responses",
        extra=_extra(wire, fields),
        lost=_lost(wire),
        echo=_echo(wire),
    )


def echo_of(raw: bytes) -> dict[str, object]:
    """Return what any answer to the request repeats of it.

    Raises:
        InvalidRequest: a field is of the wrong form; `param` names it where it can.
    """
    try:
        return _echo(_decode(raw))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise wrong_form(error, "a request for a response") from error


def _messages(wire: WireRequest) -> tuple[Message, ...]:
    asked: tuple[Message, ...]
    if isinstance(wire.input, str):
        asked = (Message(role="user", parts=(TextPart(text=wire.input),)),)
    else:
        asked = messages_of(wire.input)
    if not asked:
        raise InvalidRequest("`input` must not be empty.", param="input")
    match wire.instructions:
        case None | "":
            return asked
        case str(text):
            return (Message(role="system", parts=(TextPart(text=text),)), *asked)
        case items:
            return (*messages_of(items), *asked)


def _sampling(wire: WireRequest) -> Sampling:
    logprobs = bool(wire.top_logprobs) or LOGPROBS in (wire.include or ())
    return Sampling(
        temperature=wire.temperature,
        top_p=wire.top_p,
        max_output_tokens=wire.max_output_tokens,
        logprobs=True if logprobs else None,
        top_logprobs=wire.top_logprobs or None,
    )


def _thinking(wire: WireReasoning) -> Thinking | None:
    if wire.effort is None and wire.summary is None and wire.generate_summary is None:
        return None
    return Thinking(effort=wire.effort, summary=wire.summary or wire.generate_summary)


def _extra(wire: WireRequest, fields: Mapping[str, object]) -> dict[str, object]:
    extra = {name: value for name, value in fields.items() if name not in _KNOWN}
    extra |= {name: value for name in _CHAT_HAS if (value := getattr(wire, name)) is not None}
    if wire.text is not None and wire.text.verbosity is not None:
        extra["verbosity"] = wire.text.verbosity
    return extra


def _lost(wire: WireRequest) -> tuple[str, ...]:
    names = ("max_tool_calls", "context_management", "moderation")
    lost = [name for name in names if getattr(wire, name) is not None]
    if wire.truncation == "auto":
        lost.append("truncation")
    return tuple(lost)


def _echo(wire: WireRequest) -> dict[str, object]:
    """Return what the answer repeats; its types demand most of it, asked or not."""
    text = wire.text or WireText()
    thinking = wire.reasoning or WireReasoning()
    return {
        "background": False,
        "instructions": wire.instructions,
        "max_output_tokens": wire.max_output_tokens,
        "max_tool_calls": wire.max_tool_calls,
        "metadata": wire.metadata or {},
        "parallel_tool_calls": wire.parallel_tool_calls is not False,
        "previous_response_id": wire.previous_response_id,
        "prompt_cache_key": wire.prompt_cache_key,
        "reasoning": {"effort": thinking.effort, "summary": thinking.summary},
        "safety_identifier": wire.safety_identifier,
        "service_tier": wire.service_tier or "auto",
        "store": wire.store is not False,
        "temperature": wire.temperature,
        "text": {
            "format": text.format or {"type": "text"},
            "verbosity": text.verbosity or "medium",
        },
        "tool_choice": "auto" if wire.tool_choice is None else wire.tool_choice,
        "tools": [_shown(tool) for tool in wire.tools or ()],
        "top_logprobs": wire.top_logprobs or 0,
        "top_p": wire.top_p,
        "truncation": wire.truncation or "disabled",
        "user": wire.user,
    }


def _shown(tool: Mapping[str, object]) -> dict[str, object]:
    if tool.get("type") == "function":
        return {"description": None, "parameters": None, "strict": None, **tool}
    return dict(tool)
