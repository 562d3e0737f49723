"""OpenAI's dialect as callers speak it: requests in, answers out."""

import msgspec

from shared.chat.message import (
    AudioPart,
    CacheMark,
    FilePart,
    ImagePart,
    Message,
    Part,
    RefusalPart,
    TextPart,
    ToolCall,
)
from shared.chat.request import ChatRequest, ResponseFormat, Sampling, Thinking, Tool, ToolChoice
from shared.errors import InvalidRequest
from shared.providers.dialects.openai_functions import modern
from shared.providers.dialects.openai_reasoning import read_reasoning
from shared.providers.dialects.openai_wire import (
    WireCall,
    WireFormat,
    WireMessage,
    WirePart,
    WireRequest,
    WireTool,
)
from shared.providers.dialects.wrong_form import wrong_form

ROLES = ("system", "developer", "user", "assistant", "tool")
_FORMATS = ("text", "json_object", "json_schema")
_decode = msgspec.json.Decoder(WireRequest).decode
_decode_fields = msgspec.json.Decoder(dict[str, object]).decode
_KNOWN = frozenset(WireRequest.__struct_fields__)


def parse_request(raw: bytes) -> ChatRequest:
    """Return a caller's chat request in the canonical language.

    Raises:
        InvalidRequest: a field is missing or of the wrong form; `param` names it where it can.
    """
    try:
        wire = modern(_decode(raw))
        fields = _decode_fields(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise wrong_form(error, "a chat request") from error
    options = wire.stream_options
    return ChatRequest(
        model=wire.model,
        messages=tuple(_message(message, at) for at, message in enumerate(wire.messages)),
        tools=tuple(_tool(tool) for tool in wire.tools or ()),
        tool_choice=_tool_choice(wire.tool_choice),
        parallel_tool_calls=wire.parallel_tool_calls,
        response_format=_response_format(wire.response_format),
        sampling=_sampling(wire),
        thinking=None if wire.reasoning_effort is None else Thinking(effort=wire.reasoning_effort),
        user=wire.user,
        metadata=wire.metadata,
        service_tier=wire.service_tier,
        stream=bool(wire.stream),
        include_usage=options is not None and bool(options.include_usage),
        functions=bool(wire.functions),
        extra={name: value for name, value in fields.items() if name not in _KNOWN},
    )


def _message(wire: WireMessage, at: int) -> Message:
    where = f"messages[{at}]"
    if wire.role not in ROLES:
        raise InvalidRequest(f"`{where}.role` is unknown: {wire.role!r}.", param=f"{where}.role")
    content = wire.content
    if isinstance(content, str):
        parts: tuple[Part, ...] = (TextPart(text=content),)
    else:
        parts = tuple(_part(part, f"{where}.content") for part in content or ())
    if wire.refusal is not None:
        parts = (*parts, RefusalPart(text=wire.refusal))
    return Message(
        role=wire.role,  # type: ignore[arg-type]  # one of ROLES
        parts=parts,
        name=wire.name,
        tool_calls=tuple(tool_call(call) for call in wire.tool_calls or ()),
        tool_call_id=wire.tool_call_id,
        reasoning=read_reasoning(wire.reasoning_content or wire.reasoning, wire.reasoning_details),
    )


def _part(wire: WirePart, where: str) -> Part:
    cache = _cache(wire.cache_control)
    if wire.type == "text" and wire.text is not None:
        return TextPart(text=wire.text, cache=cache)
    if wire.type == "image_url" and wire.image_url is not None:
        if isinstance(wire.image_url, str):
            return ImagePart(url=wire.image_url, cache=cache)
        return ImagePart(url=wire.image_url.url, detail=wire.image_url.detail, cache=cache)
    if wire.type == "input_audio" and wire.input_audio is not None:
        return AudioPart(data=wire.input_audio.data, format=wire.input_audio.format)
    if wire.type == "file" and wire.file is not None:
        return FilePart(
            file_id=wire.file.file_id,
            filename=wire.file.filename,
            data_url=wire.file.file_data,
            cache=cache,
        )
    if wire.type == "refusal" and wire.refusal is not None:
        return RefusalPart(text=wire.refusal)
    raise InvalidRequest(f"`{where}` holds a part that is not a {wire.type!r}.", param=where)


def _cache(wire: object) -> CacheMark | None:
    """Return Anthropic's cache mark, which many send to OpenAI's surfaces too."""
    match wire:
        case {"type": "ephemeral", "ttl": "1h"}:
            return CacheMark(ttl="1h")
        case {"type": "ephemeral"}:
            return CacheMark()
        case _:
            return None


def tool_call(wire: WireCall) -> ToolCall:
    """Return a whole tool call; what a server left out is empty."""
    if wire.custom is not None:
        called = wire.custom
        return ToolCall(
            id=wire.id or "", name=called.name or "", arguments=called.input or "", kind="custom"
        )
    function = wire.function
    name = "" if function is None else function.name or ""
    arguments = "" if function is None else function.arguments or ""
    signature = signature_in(wire.extra_content)
    return ToolCall(id=wire.id or "", name=name, arguments=arguments, signature=signature)


def signature_in(extra: object) -> str | None:
    """Return the thought signature of a call, as Google's own OpenAI surface carries it."""
    match extra:
        case {"google": {"thought_signature": str(signature)}}:
            return signature
        case _:
            return None


def _tool(wire: WireTool) -> Tool:
    declared = wire.function or wire.custom
    if declared is None:
        raise InvalidRequest("A tool has neither `function` nor `custom`.", param="tools")
    return Tool(
        name=declared.name,
        description=declared.description,
        parameters=declared.parameters,
        strict=declared.strict,
        kind="function" if wire.function is not None else "custom",
        format=declared.format,
        cache=_cache(wire.cache_control),
    )


def _tool_choice(wire: str | dict[str, object] | None) -> ToolChoice | None:
    match wire:
        case None:
            return None
        case "auto" | "none" | "required":
            return ToolChoice(mode=wire)
        case {"type": "function", "function": {"name": str(name)}}:
            return ToolChoice(mode="named", name=name)
        case {"type": "custom", "custom": {"name": str(name)}}:
            return ToolChoice(mode="named", name=name, kind="custom")
        case {"type": "allowed_tools", "allowed_tools": {"mode": str(mode), "tools": list(tools)}}:
            return ToolChoice(
                mode="required" if mode == "required" else "auto",
                allowed=tuple(_allowed_name(tool) for tool in tools),
            )
        case _:
            raise InvalidRequest("`tool_choice` is of no known form.", param="tool_choice")


def _allowed_name(tool: object) -> str:
    match tool:
        case {"function": {"name": str(name)}} | {"custom": {"name": str(name)}}:
            return name
        case _:
            raise InvalidRequest("An allowed tool has no name.", param="tool_choice")


def _response_format(wire: WireFormat | None) -> ResponseFormat | None:
    if wire is None:
        return None
    if wire.type not in _FORMATS:
        raise InvalidRequest(f"Unknown response format {wire.type!r}.", param="response_format")
    schema = wire.json_schema
    if schema is None:
        return ResponseFormat(kind=wire.type)  # type: ignore[arg-type]  # one of _FORMATS
    return ResponseFormat(
        kind="json_schema",
        name=schema.name,
        description=schema.description,
        schema=schema.schema,
        strict=schema.strict,
    )


def _sampling(wire: WireRequest) -> Sampling:
    stop = (wire.stop,) if isinstance(wire.stop, str) else tuple(wire.stop or ())
    return Sampling(
        temperature=wire.temperature,
        top_p=wire.top_p,
        max_output_tokens=wire.max_completion_tokens or wire.max_tokens,
        stop=stop,
        seed=wire.seed,
        presence_penalty=wire.presence_penalty,
        frequency_penalty=wire.frequency_penalty,
        logit_bias=wire.logit_bias,
        logprobs=wire.logprobs,
        top_logprobs=wire.top_logprobs,
        n=wire.n,
        top_k=wire.top_k,
    )
