"""Asking Ollama by its native surface, `POST /api/chat`, which can do what its `/v1` cannot.

Sources: the types of Ollama's Python SDK 0.6.3 and its API documentation.
"""

import base64
from collections.abc import Mapping, Sequence

import msgspec

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
from shared.providers.dialects.data_url import read_data_url
from shared.providers.request import FetchedFile
from shared.providers.translation import Asked, Built

OPTIONS = frozenset({
    "low_vram", "main_gpu", "min_p", "mirostat", "mirostat_eta", "mirostat_tau", "num_batch",
    "num_ctx", "num_gpu", "num_keep", "num_predict", "num_thread", "numa", "penalize_newline",
    "repeat_last_n", "repeat_penalty", "tfs_z", "typical_p", "use_mmap", "use_mlock",
})  # fmt: skip
"""What stands in `options` and has no word in OpenAI's dialect: parameters of a Modelfile."""

NATIVE = frozenset({*OPTIONS, "options", "keep_alive", "think"})
"""Fields that only the native surface knows."""

_SAMPLED = frozenset({
    "temperature", "top_p", "top_k", "seed", "stop", "presence_penalty", "frequency_penalty",
})  # fmt: skip
_LENGTHS = ("max_tokens", "max_completion_tokens")
_BESIDE = frozenset({"keep_alive", "think", "truncate", "shift"})
_EFFORTS = {"minimal": "low", "low": "low", "medium": "medium"}


def build_request(
    chat: ChatRequest,
    *,
    params: Mapping[str, object] | None = None,
    files: Mapping[str, FetchedFile] | None = None,
) -> Built:
    """Return the question for `/api/chat`. The caller's fields go before the operator's `params`.

    Arguments of earlier calls that are no JSON object are sent as the member `arguments` of one.
    A forced tool cannot be asked for; a named one is then the only one offered.

    Raises:
        InvalidRequest: a picture is no data URL, or a tool's message answers no call.
        UnsupportedParameter: sound or a document, which no option could make it read.
    """
    body: dict[str, object] = {
        "model": chat.model,
        "messages": _messages(chat.messages, files or {}),
        "stream": chat.stream,
    }
    tools = _tools(chat)
    if tools:
        body["tools"] = [_tool(tool) for tool in tools]
    body |= _format(chat.response_format) | _think(chat.thinking, chat.model)
    sampling = chat.sampling
    if sampling.logprobs:
        body |= {"logprobs": True} | _present({"top_logprobs": sampling.top_logprobs})
    known, unknown = placed(chat.extra)
    filled, _ = placed(params or {})
    options = {**_options(filled), **_sampled(sampling), **_options(known)}
    if sampling.max_output_tokens is not None:  # which is what is held for the call
        options["num_predict"] = sampling.max_output_tokens
    body = {**filled, **known, **body}
    if options:
        body["options"] = options
    return Built(
        body=body,
        asked=Asked(model=chat.model, tools=bool(tools)),
        dropped=(*_dropped(chat, tools), *unknown),
    )


def placed(fields: Mapping[str, object]) -> tuple[dict[str, object], tuple[str, ...]]:
    """Return the fields where Ollama wants them, and the names of those it does not know."""
    found: dict[str, object] = {}
    options: dict[str, object] = {}
    unknown: list[str] = []
    for name, value in fields.items():
        if name == "options" and isinstance(value, Mapping):
            options = {**options, **value}
        elif name in OPTIONS or name in _SAMPLED:
            options.setdefault(name, value)
        elif name in _LENGTHS:
            options.setdefault("num_predict", value)
        elif name in _BESIDE:
            found[name] = value
        else:
            unknown.append(name)
    if options:
        found["options"] = options
    return found, tuple(unknown)


def _options(fields: Mapping[str, object]) -> dict[str, object]:
    options = fields.get("options")
    return dict(options) if isinstance(options, Mapping) else {}


def _sampled(sampling: Sampling) -> dict[str, object]:
    return _present({
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "seed": sampling.seed,
        "stop": list(sampling.stop) or None,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "num_predict": sampling.max_output_tokens,
    })  # fmt: skip


def _format(wanted: ResponseFormat | None) -> dict[str, object]:
    if wanted is None or wanted.kind == "text":
        return {}
    if wanted.kind == "json_schema" and wanted.schema is not None:
        return {"format": wanted.schema}
    return {"format": "json"}


def _think(thinking: Thinking | None, model: str) -> dict[str, object]:
    """Return the switch: a level for gpt-oss, which cannot be switched off; for others on or off.

    A model that does not think answers a request to do so with 400.
    """
    if thinking is None:
        return {}
    off = thinking.enabled is False or thinking.effort == "none"
    if "gpt-oss" in model:
        return {"think": "low" if off else _EFFORTS.get(thinking.effort or "medium", "high")}
    if off:
        return {"think": False}
    asked = thinking.enabled or thinking.effort is not None or thinking.budget_tokens is not None
    return {"think": True} if asked else {}


def _tools(chat: ChatRequest) -> tuple[Tool, ...]:
    choice = chat.tool_choice
    tools = tuple(tool for tool in chat.tools if tool.kind == "function")
    if choice is None:
        return tools
    if choice.mode == "none":
        return ()
    if choice.mode == "named":
        return tuple(tool for tool in tools if tool.name == choice.name)
    return tuple(tool for tool in tools if not choice.allowed or tool.name in choice.allowed)


def _dropped(chat: ChatRequest, tools: Sequence[Tool]) -> tuple[str, ...]:
    sampling, choice = chat.sampling, chat.tool_choice
    cannot = {
        "tools": any(tool.kind != "function" for tool in chat.tools),
        "tool_choice": bool(tools) and choice is not None and choice.mode in {"required", "named"},
        "parallel_tool_calls": bool(tools) and chat.parallel_tool_calls is False,
        "n": (sampling.n or 1) > 1,
        "logit_bias": bool(sampling.logit_bias),
    }
    return tuple(name for name, lost in cannot.items() if lost)


def _tool(tool: Tool) -> dict[str, object]:
    function = {
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters or {"type": "object", "properties": {}},
    }
    return {"type": "function", "function": _present(function)}


def _messages(
    messages: Sequence[Message], files: Mapping[str, FetchedFile]
) -> list[dict[str, object]]:
    """Return the turns. Pictures of a tool's result follow it in the user's name.

    Templates show pictures in users' turns only.
    """
    names = {call.id: call.name for message in messages for call in message.tool_calls}
    sent: list[dict[str, object]] = []
    waiting: list[str] = []
    for at, message in enumerate(messages):
        images = [_image(part, files) for part in message.parts if isinstance(part, ImagePart)]
        if message.role == "tool":
            sent.append(_result(message, names, at))
            waiting += images
            continue
        if waiting:
            sent.append({"role": "user", "content": "", "images": waiting})
            waiting = []
        sent.append(_turn(message, images))
    if waiting:
        sent.append({"role": "user", "content": "", "images": waiting})
    return sent


def _turn(message: Message, images: list[str]) -> dict[str, object]:
    role = "system" if message.role == "developer" else message.role
    own = [piece.text for piece in message.reasoning if piece.dialect in {None, "ollama"}]
    calls = [_call(call) for call in message.tool_calls]
    turn = {"role": role, "content": _text(message.parts)}
    return turn | _present({
        "images": images or None,
        "thinking": "".join(own) or None,
        "tool_calls": calls or None,
    })  # fmt: skip


def _result(message: Message, names: Mapping[str, str], at: int) -> dict[str, object]:
    called = message.tool_call_id or ""
    if called not in names:
        param = f"messages[{at}].tool_call_id"
        raise InvalidRequest(f"`{param}` answers no call of this history: {called!r}.", param=param)
    return {"role": "tool", "content": _text(message.parts), "tool_name": names[called]}


def _call(call: ToolCall) -> dict[str, object]:
    function = {"name": call.name, "arguments": arguments_object(call.arguments)}
    return _present({"id": call.id or None, "function": function})


def arguments_object(text: str) -> dict[str, object]:
    """Return a call's arguments as the object they should be, `{"arguments": …}` of anything else.

    No text at all is no arguments.
    """
    if not text.strip():
        return {}
    try:
        found = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        found = text
    return found if isinstance(found, dict) else {"arguments": found}


def _text(parts: Sequence[Part]) -> str:
    texts: list[str] = []
    for part in parts:
        match part:
            case TextPart(text=text) | RefusalPart(text=text):
                texts.append(text)
            case AudioPart():
                raise UnsupportedParameter("Ollama hears no sound.", param="input_audio")
            case FilePart():
                raise UnsupportedParameter("Ollama reads no documents.", param="file")
            case ImagePart():
                pass
    return "".join(texts)


def _image(part: ImagePart, files: Mapping[str, FetchedFile]) -> str:
    """Return a picture as bare base64."""
    fetched = files.get(part.url)
    if fetched is not None:
        return base64.b64encode(fetched.content).decode()
    file = read_data_url(part.url, where="image_url")
    if not file.media_type.startswith("image/"):
        raise InvalidRequest(f"{file.media_type!r} is no image.", param="image_url")
    return file.base64


def _present(fields: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in fields.items() if value is not None}
