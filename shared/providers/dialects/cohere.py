"""Asking Cohere by its native surface, `POST /v2/chat`.

Sources: recordings of its API, its documentation of November 2026.
"""

from collections.abc import Mapping, Sequence

from shared.chat.message import (
    AudioPart,
    FilePart,
    ImagePart,
    Message,
    Part,
    RefusalPart,
    TextPart,
    ToolCall,
)
from shared.chat.request import ChatRequest, ResponseFormat, Sampling, Thinking, Tool
from shared.errors import InvalidRequest, UnsupportedParameter
from shared.providers.dialects.data_url import is_data_url, read_data_url
from shared.providers.translation import Asked, Built

DIALECT = "cohere"

OWN = frozenset({
    "citation_options", "documents", "k", "p", "priority", "safety_mode", "strict_tools",
    "thinking", "raw_prompting",
})  # fmt: skip
"""Fields of its own, which callers may set beside OpenAI's."""

HIGHEST_TEMPERATURE = 1.0
_CHOICES = {"required": "REQUIRED", "named": "REQUIRED", "none": "NONE"}


def build_request(chat: ChatRequest) -> Built:
    """Return the question for `/v2/chat`. A named tool is the only one offered, and must be called.

    Thoughts of the history go back as the plan of the calls that they led to.

    Raises:
        InvalidRequest: a tool's message answers no call of the history.
        UnsupportedParameter: sound or a document, which no option could make it read.
    """
    body: dict[str, object] = {
        "model": chat.model,
        "messages": _messages(chat.messages),
        "stream": chat.stream,
        **_sampling(chat.sampling),
    }
    tools = _tools(chat)
    if tools:
        body["tools"] = [_tool(tool) for tool in tools]
        choice = None if chat.tool_choice is None else _CHOICES.get(chat.tool_choice.mode)
        body |= _present({"tool_choice": choice})
        if any(tool.strict for tool in tools):
            body["strict_tools"] = True
    body |= _format(chat.response_format) | _thinking(chat.thinking)
    own = {name: value for name, value in chat.extra.items() if name in OWN}
    unknown = tuple(name for name in chat.extra if name not in OWN)
    return Built(
        body={**body, **own},
        asked=Asked(model=chat.model, tools=bool(tools)),
        dropped=(*_dropped(chat, tools), *unknown),
    )


def _sampling(sampling: Sampling) -> dict[str, object]:
    temperature = sampling.temperature
    return _present({
        "temperature": None if temperature is None else min(temperature, HIGHEST_TEMPERATURE),
        "p": sampling.top_p,
        "k": sampling.top_k,
        "seed": sampling.seed,
        "max_tokens": sampling.max_output_tokens,
        "stop_sequences": list(sampling.stop) or None,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "logprobs": sampling.logprobs or None,
    })  # fmt: skip


def _format(wanted: ResponseFormat | None) -> dict[str, object]:
    if wanted is None or wanted.kind == "text":
        return {}
    form: dict[str, object] = {"type": "json_object"}
    if wanted.kind == "json_schema" and wanted.schema is not None:
        form["json_schema"] = wanted.schema
    return {"response_format": form}


def _thinking(thinking: Thinking | None) -> dict[str, object]:
    if thinking is None:
        return {}
    if thinking.enabled is False or thinking.effort == "none":
        return {"thinking": {"type": "disabled"}}
    if thinking.enabled or thinking.effort is not None or thinking.budget_tokens is not None:
        budget = _present({"token_budget": thinking.budget_tokens})
        return {"thinking": {"type": "enabled", **budget}}
    return {}


def _tools(chat: ChatRequest) -> tuple[Tool, ...]:
    choice = chat.tool_choice
    tools = tuple(tool for tool in chat.tools if tool.kind == "function")
    if choice is None:
        return tools
    if choice.mode == "named":
        return tuple(tool for tool in tools if tool.name == choice.name)
    return tuple(tool for tool in tools if not choice.allowed or tool.name in choice.allowed)


def _dropped(chat: ChatRequest, tools: Sequence[Tool]) -> tuple[str, ...]:
    sampling = chat.sampling
    warm = sampling.temperature is not None and sampling.temperature > HIGHEST_TEMPERATURE
    cannot = {
        "tools": any(tool.kind != "function" for tool in chat.tools),
        "parallel_tool_calls": bool(tools) and chat.parallel_tool_calls is False,
        "temperature": warm,
        "n": (sampling.n or 1) > 1,
        "logit_bias": bool(sampling.logit_bias),
        "top_logprobs": bool(sampling.top_logprobs),
    }
    return tuple(name for name, lost in cannot.items() if lost)


def _tool(tool: Tool) -> dict[str, object]:
    function = {
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters or {"type": "object", "properties": {}},
    }
    return {"type": "function", "function": _present(function)}


def _messages(messages: Sequence[Message]) -> list[dict[str, object]]:
    """Return the turns. Pictures of a tool's result follow it in the user's name."""
    known = {call.id for message in messages for call in message.tool_calls}
    sent: list[dict[str, object]] = []
    waiting: list[dict[str, object]] = []
    for at, message in enumerate(messages):
        if message.role == "tool":
            if message.tool_call_id not in known:
                raise _answers_nothing(message, at)
            sent.append(_result(message))
            waiting += [_part(part) for part in message.parts if isinstance(part, ImagePart)]
            continue
        if waiting:
            sent.append({"role": "user", "content": waiting})
            waiting = []
        sent.append(_turn(message))
    return [*sent, {"role": "user", "content": waiting}] if waiting else sent


def _answers_nothing(message: Message, at: int) -> InvalidRequest:
    param = f"messages[{at}].tool_call_id"
    return InvalidRequest(
        f"`{param}` answers no call of this history: {message.tool_call_id!r}.", param=param
    )


def _turn(message: Message) -> dict[str, object]:
    role = "system" if message.role == "developer" else message.role
    if role != "assistant":
        return {"role": role, "content": _content(message.parts)}
    own = [piece.text for piece in message.reasoning if piece.dialect in {None, DIALECT}]
    turn: dict[str, object] = {"role": role}
    text = "".join(_text(part) for part in message.parts)
    if text or not message.tool_calls:
        turn["content"] = text
    if message.tool_calls:
        turn["tool_calls"] = [_call(call) for call in message.tool_calls]
        turn |= _present({"tool_plan": "".join(own) or None})
    return turn


def _result(message: Message) -> dict[str, object]:
    text = "".join(_text(part) for part in message.parts if not isinstance(part, ImagePart))
    return {"role": "tool", "tool_call_id": message.tool_call_id, "content": text}


def _call(call: ToolCall) -> dict[str, object]:
    function = {"name": call.name, "arguments": call.arguments.strip() or "{}"}
    return {"id": call.id, "type": "function", "function": function}


def _content(parts: Sequence[Part]) -> object:
    if all(isinstance(part, TextPart | RefusalPart) for part in parts):
        return "".join(_text(part) for part in parts)
    return [_part(part) for part in parts]


def _part(part: Part) -> dict[str, object]:
    if not isinstance(part, ImagePart):
        return {"type": "text", "text": _text(part)}
    if is_data_url(part.url):
        file = read_data_url(part.url, where="image_url")
        url = f"data:{file.media_type};base64,{file.base64}"
    else:
        url = part.url
    return {"type": "image_url", "image_url": _present({"url": url, "detail": part.detail})}


def _text(part: Part) -> str:
    match part:
        case TextPart(text=text) | RefusalPart(text=text):
            return text
        case AudioPart():
            raise UnsupportedParameter("Cohere hears no sound.", param="input_audio")
        case FilePart():
            raise UnsupportedParameter("Cohere's chat reads no documents.", param="file")
        case ImagePart():
            raise InvalidRequest("An assistant's turn holds a picture.", param="messages")


def _present(fields: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in fields.items() if value is not None}
