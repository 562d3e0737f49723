"""OpenAI's chat: answers read as its SDK reads them, questions written as callers write them."""

import json
from collections.abc import Mapping

from shared.chat.message import AudioPart, FilePart, ImagePart, Message, Part, RefusalPart, TextPart
from shared.chat.request import ChatRequest, Tool
from tests.readings.said import Said, arguments_of, joined, sse

FINISHES = {"eos": "stop", "function_call": "tool_calls", "model_length": "length"}


def whole(body: Mapping) -> Said:
    """Read a chat completion."""
    if body.get("error"):
        return Said(error=body["error"]["message"])
    choice = body["choices"][0]
    message = choice["message"]
    calls = message.get("tool_calls") or []
    return Said(
        text=_text(message.get("content")),
        thoughts=message.get("reasoning_content") or message.get("reasoning") or "",
        calls=tuple(
            (call["function"]["name"], arguments_of(call["function"]["arguments"]))
            for call in calls
        ),
        call_ids=tuple(call["id"] for call in calls),
        proofs=_proofs(message),
        finish=FINISHES.get(choice["finish_reason"], choice["finish_reason"]),
        **counts(body.get("usage") or _groq(body)),
    )


def streamed(raw: bytes) -> Said:
    """Read a stream of chunks."""
    body, error = _folded(raw)
    said = whole(body)
    return Said(error=error, **{n: v for n, v in _fields(said) if n != "error"})


def message_of(raw: bytes, *, stream: bool) -> dict:
    """Return an answer's message as callers put it into the history."""
    body = _folded(raw)[0] if stream else json.loads(raw)
    return {name: value for name, value in body["choices"][0]["message"].items() if value}


def _folded(raw: bytes) -> tuple[dict, str | None]:
    """Return the completion that a stream makes up, and its error."""
    message: dict = {"role": "assistant", "content": "", "reasoning_content": ""}
    message |= {"reasoning_details": []}
    calls: dict[int, dict] = {}
    body: dict = {"choices": [{"message": message, "finish_reason": None}]}
    error = None
    for name, chunk in sse(raw):
        if not isinstance(chunk, dict):
            continue
        if name == "error" or chunk.get("error"):
            error = joined([(chunk.get("error") or chunk).get("message")])
            continue
        body["usage"] = chunk.get("usage") or _groq(chunk) or body.get("usage")
        for choice in chunk.get("choices") or ():
            _add(choice.get("delta") or {}, message, calls)
            known = body["choices"][0]
            known["finish_reason"] = choice.get("finish_reason") or known["finish_reason"]
    message["tool_calls"] = [calls[number] for number in sorted(calls)]
    return body, error


def _fields(said: Said):
    return ((name, getattr(said, name)) for name in said.__struct_fields__)


def _add(delta: Mapping, message: dict, calls: dict[int, dict]) -> None:
    message["content"] += _text(delta.get("content"))
    message["reasoning_content"] += delta.get("reasoning_content") or delta.get("reasoning") or ""
    message["reasoning_details"] += delta.get("reasoning_details") or []
    for piece in delta.get("tool_calls") or ():
        empty = {"type": "function", "function": {"name": "", "arguments": ""}}
        call = calls.setdefault(piece["index"], empty)
        call["id"] = call.get("id") or piece.get("id")
        if piece.get("extra_content"):
            call["extra_content"] = piece["extra_content"]
        called = piece.get("function") or {}
        call["function"]["name"] = call["function"]["name"] or called.get("name") or ""
        call["function"]["arguments"] += called.get("arguments") or ""


def counts(usage: Mapping | None) -> dict:
    """Return the fields of Said that stand in a usage object."""
    usage = usage or {}
    details = usage.get("prompt_tokens_details") or {}
    cached = details.get("cached_tokens", usage.get("prompt_cache_hit_tokens"))
    return {
        "input_tokens": usage.get("prompt_tokens"),
        "output_tokens": usage.get("completion_tokens"),
        "cached_tokens": cached,
    }


def _groq(body: Mapping) -> Mapping | None:
    return (body.get("x_groq") or {}).get("usage")


def _text(content: object) -> str:
    if isinstance(content, list):
        return joined(part.get("text") for part in content)
    return str(content or "")


def _proofs(message: Mapping) -> tuple[str, ...]:
    """Return what providers want back: of thoughts first, then of calls."""
    found = []
    for detail in message.get("reasoning_details") or ():
        found += [detail[name] for name in ("signature", "data") if detail.get(name)]
    for call in message.get("tool_calls") or ():
        signature = ((call.get("extra_content") or {}).get("google") or {}).get("thought_signature")
        found += [signature] if signature else []
    return tuple(found)


def asked(chat: ChatRequest) -> dict:
    """Write a question as a caller with OpenAI's SDK would, extensions in `extra_body`."""
    body: dict = {"model": chat.model, "messages": [_message(message) for message in chat.messages]}
    sampling = {
        "max_completion_tokens": chat.sampling.max_output_tokens,
        "stop": list(chat.sampling.stop) or None,
        **{
            name: getattr(chat.sampling, name)
            for name in chat.sampling.__struct_fields__
            if name not in {"max_output_tokens", "stop"}
        },
    }
    if chat.tools:
        body["tools"] = [_tool(tool) for tool in chat.tools]
        if chat.tool_choice is not None:
            choice = chat.tool_choice
            named = {"type": "function", "function": {"name": choice.name}}
            body["tool_choice"] = named if choice.mode == "named" else choice.mode
    if chat.response_format is not None:
        wanted = chat.response_format
        body["response_format"] = {"type": wanted.kind}
        if wanted.kind == "json_schema":
            schema = {"name": wanted.name or "answer", "schema": wanted.schema}
            body["response_format"]["json_schema"] = schema
    if chat.thinking is not None and chat.thinking.budget_tokens is not None:
        budget = chat.thinking.budget_tokens
        body["thinking"] = {"type": "enabled", "budget_tokens": budget}
    elif chat.thinking is not None:
        sampling["reasoning_effort"] = chat.thinking.effort
    rest = {
        "parallel_tool_calls": chat.parallel_tool_calls,
        "user": chat.user,
        "metadata": chat.metadata,
        "service_tier": chat.service_tier,
    }
    if chat.stream:
        rest |= {"stream": True, "stream_options": {"include_usage": True}}
    named = {name: value for name, value in {**sampling, **rest}.items() if value is not None}
    return {**chat.extra, **body, **named}


def _message(message: Message) -> dict:
    written: dict = {"role": message.role}
    if message.parts or not message.tool_calls:
        plain = len(message.parts) == 1 and isinstance(message.parts[0], TextPart)
        marked = any(getattr(part, "cache", None) for part in message.parts)
        written["content"] = (
            message.text if plain and not marked else [_part(part) for part in message.parts]
        )
    if message.name:
        written["name"] = message.name
    if message.tool_call_id:
        written["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        written["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
                **(
                    {"extra_content": {"google": {"thought_signature": call.signature}}}
                    if call.signature
                    else {}
                ),
            }
            for call in message.tool_calls
        ]
    if message.reasoning:
        written["reasoning_content"] = message.thoughts
    return written


def _part(part: Part) -> dict:
    cache = getattr(part, "cache", None)
    mark = {} if cache is None else {"cache_control": {"type": "ephemeral", "ttl": cache.ttl}}
    match part:
        case TextPart():
            written = {"type": "text", "text": part.text}
        case ImagePart():
            written = {"type": "image_url", "image_url": {"url": part.url}}
        case AudioPart():
            sound = {"data": part.data, "format": part.format}
            written = {"type": "input_audio", "input_audio": sound}
        case FilePart():
            file = {"filename": part.filename, "file_data": part.data_url, "file_id": part.file_id}
            written = {"type": "file", "file": {n: v for n, v in file.items() if v}}
        case RefusalPart():
            written = {"type": "refusal", "refusal": part.text}
    return {**written, **mark}


def _tool(tool: Tool) -> dict:
    declared = {
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
        "strict": tool.strict,
    }
    cache = tool.cache
    mark = {} if cache is None else {"cache_control": {"type": "ephemeral", "ttl": cache.ttl}}
    given = {name: value for name, value in declared.items() if value is not None}
    return {"type": "function", "function": json.loads(json.dumps(given)), **mark}
