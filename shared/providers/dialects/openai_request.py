"""A canonical question in OpenAI's words; vendors' steps make their own of it."""

from collections.abc import Iterable, Iterator, Mapping

from shared.chat.message import (
    AudioPart,
    FilePart,
    ImagePart,
    Message,
    Part,
    RefusalPart,
    TextPart,
)
from shared.chat.request import ChatRequest, ResponseFormat, Sampling, Thinking, Tool, ToolChoice
from shared.providers.dialects.openai_reasoning import render_details
from shared.providers.dialects.openai_render import render_call
from shared.providers.translation import Asked, Built

OWN = "openai"
_SHARED_WORDS = frozenset({
    "prompt_cache_key", "prompt_cache_retention", "safety_identifier", "verbosity", "store",
    "top_logprobs", "modalities", "prediction", "web_search_options", "seed", "logit_bias",
})  # fmt: skip
"""Fields that mean the same in every dialect of OpenAI's."""

_BUDGET_EFFORTS = ((2_048, "low"), (12_000, "medium"))
"""Tokens of thought that a word stands for, roughly; above the last it is `high`."""


def build_request(chat: ChatRequest, *, stream_options: bool = True) -> Built:
    """Return the question for an OpenAI-compatible server; nothing is sent that was not asked for.

    Tool settings without tools are left out: servers refuse them. Tools that run at another
    provider, and extensions of another dialect, are dropped.
    """
    tools = tuple(tool for tool in chat.tools if tool.kind != "hosted")
    body: dict[str, object] = {
        "model": chat.model,
        "messages": list(_messages(chat.messages)),
        **_sampling(chat.sampling),
    }
    if tools:
        body["tools"] = [_tool(tool) for tool in tools]
        if chat.tool_choice is not None:
            body["tool_choice"] = _tool_choice(chat.tool_choice, tools)
        if chat.parallel_tool_calls is not None:
            body["parallel_tool_calls"] = chat.parallel_tool_calls
    if chat.response_format is not None:
        body["response_format"] = _response_format(chat.response_format)
    body |= _present({
        "reasoning_effort": effort_of(chat.thinking),
        "user": chat.user,
        "metadata": chat.metadata if chat.dialect == OWN else None,
        "service_tier": chat.service_tier,
    })  # fmt: skip
    if chat.stream:
        body["stream"] = True
        if stream_options:
            body["stream_options"] = {"include_usage": True}
    extra, dropped = _extra(chat)
    if len(tools) < len(chat.tools):
        dropped.append("tools")
    return Built(
        body={**extra, **body},
        asked=Asked(model=chat.model, tools=bool(tools)),
        dropped=(*chat.lost, *dropped),
    )


def _extra(chat: ChatRequest) -> tuple[dict[str, object], list[str]]:
    """Return the fields beyond the canonical language that go on, and the names of the others."""
    if chat.dialect == OWN:
        return dict(chat.extra), []
    kept = {name: value for name, value in chat.extra.items() if name in _SHARED_WORDS}
    return kept, [name for name in chat.extra if name not in kept]


def effort_of(thinking: Thinking | None) -> str | None:
    """Return the word for how much is to be thought, from a budget where there is no word."""
    if thinking is None:
        return None
    if thinking.effort is not None:
        return thinking.effort
    if thinking.enabled is False:
        return "none"
    if thinking.budget_tokens is None:
        return None
    if thinking.budget_tokens == 0:
        return "none"
    for most, word in _BUDGET_EFFORTS:
        if thinking.budget_tokens <= most:
            return word
    return "high"


def _messages(messages: Iterable[Message]) -> Iterator[dict[str, object]]:
    """Yield the messages; what a tool returned besides text follows its turn as a user's message.

    A tool's message takes only text in this dialect, and nothing may stand between a call and its
    results.
    """
    waiting: list[Part] = []
    for message in messages:
        if message.role != "tool" and waiting:
            yield _shown(waiting)
            waiting = []
        if message.role == "tool":
            waiting += [part for part in message.parts if not isinstance(part, TextPart)]
            yield _result(message)
        else:
            yield _message(message)
    if waiting:
        yield _shown(waiting)


def _shown(parts: list[Part]) -> dict[str, object]:
    intro = {"type": "text", "text": "What the tools returned besides text:"}
    return {"role": "user", "content": [intro, *map(_part, parts)]}


def _result(message: Message) -> dict[str, object]:
    texts = tuple(part for part in message.parts if isinstance(part, TextPart))
    if any(part.text for part in texts):
        content = _content(texts)
    elif len(texts) < len(message.parts):
        content = "The result follows."
    else:
        content = "The tool failed." if message.is_error else ""
    return _present({
        "role": "tool",
        "tool_call_id": message.tool_call_id,
        "content": content,
        "name": message.name,
    })  # fmt: skip


def _message(message: Message) -> dict[str, object]:
    content = _content(message.parts)
    if content is None and not message.tool_calls:
        content = ""
    return _present({
        "role": message.role,
        "content": content,
        "name": message.name,
        "tool_calls": [render_call(call) for call in message.tool_calls] or None,
        "reasoning_content": message.thoughts or None,
        "reasoning_details": render_details(message.reasoning) or None,
    })  # fmt: skip


def _content(parts: tuple[Part, ...]) -> object:
    match parts:
        case ():
            return None
        case (TextPart(text=text, cache=None),):
            return text
        case _:
            return [_part(part) for part in parts]


def _part(part: Part) -> dict[str, object]:
    shown = _uncached(part)
    cache = None if isinstance(part, AudioPart | RefusalPart) else part.cache
    if cache is not None:
        # Anthropic's spelling, as OpenRouter and others take it; elsewhere a step takes it out.
        shown["cache_control"] = {"type": "ephemeral"} | (
            {} if cache.ttl == "5m" else {"ttl": cache.ttl}
        )
    return shown


def _uncached(part: Part) -> dict[str, object]:
    match part:
        case TextPart():
            return {"type": "text", "text": part.text}
        case ImagePart():
            image = _present({"url": part.url, "detail": part.detail})
            return {"type": "image_url", "image_url": image}
        case AudioPart():
            audio = {"data": part.data, "format": part.format}
            return {"type": "input_audio", "input_audio": audio}
        case FilePart():
            file = {
                "file_id": part.file_id,
                "filename": part.filename,
                "file_data": part.data_url or part.url,
            }
            return {"type": "file", "file": _present(file)}
        case RefusalPart():
            return {"type": "refusal", "refusal": part.text}


def _tool(tool: Tool) -> dict[str, object]:
    declared = {
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
        "strict": tool.strict,
        "format": tool.format,
    }
    return {"type": tool.kind, tool.kind: _present(declared)}


def _tool_choice(choice: ToolChoice, tools: tuple[Tool, ...]) -> object:
    if choice.mode == "named":
        return {"type": choice.kind, choice.kind: {"name": choice.name}}
    if not choice.allowed:
        return choice.mode
    kinds = {tool.name: tool.kind for tool in tools}
    allowed = [
        {"type": kinds.get(name, "function"), kinds.get(name, "function"): {"name": name}}
        for name in choice.allowed
    ]
    return {"type": "allowed_tools", "allowed_tools": {"mode": choice.mode, "tools": allowed}}


def _response_format(wanted: ResponseFormat) -> dict[str, object]:
    if wanted.kind != "json_schema":
        return {"type": wanted.kind}
    schema = {
        "name": wanted.name or "answer",
        "description": wanted.description,
        "schema": wanted.schema,
        "strict": wanted.strict,
    }
    return {"type": wanted.kind, "json_schema": _present(schema)}


def _sampling(sampling: Sampling) -> dict[str, object]:
    return _present({
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_completion_tokens": sampling.max_output_tokens,
        "stop": list(sampling.stop) or None,
        "seed": sampling.seed,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "logit_bias": sampling.logit_bias,
        "logprobs": sampling.logprobs,
        "top_logprobs": sampling.top_logprobs,
        "n": sampling.n,
        "top_k": sampling.top_k,
    })  # fmt: skip


def _present(fields: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in fields.items() if value is not None}
