"""Anthropic's Messages as callers speak it: requests in."""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from shared.chat.message import Message, Part, TextPart, ToolCall
from shared.chat.request import ChatRequest, ResponseFormat, Sampling, Thinking, Tool, ToolChoice
from shared.errors import InvalidRequest
from shared.providers.dialects.foreign_thoughts import unpacked
from shared.providers.dialects.messages_parts import cache_of, marked, parts_of, texts
from shared.providers.dialects.messages_wire import (
    WireAsked,
    WireBlock,
    WireChoice,
    WireTool,
)
from shared.providers.dialects.openai_served import signature_in
from shared.providers.dialects.wrong_form import wrong_form

_decode = msgspec.json.Decoder(WireAsked).decode
_decode_fields = msgspec.json.Decoder(dict[str, object]).decode
_KNOWN = frozenset(WireAsked.__struct_fields__)

FORMAT_NAME = "output"
"""Anthropic's schemas have no name; others want one."""

_TIERS = {"auto": "auto", "standard_only": "default"}
_SUMMARIES = {"summarized": "auto", "omitted": "omitted"}


def parse_request(raw: bytes) -> ChatRequest:
    """Return a caller's request in the canonical language.

    `max_tokens` may be missing: the provider's own default holds then.

    Raises:
        InvalidRequest: a field is missing or of the wrong form; `param` names it where it can.
        UnsupportedParameter: a block that only Anthropic itself can take.
    """
    try:
        wire = _decode(raw)
        fields = _decode_fields(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise wrong_form(error, "a Messages request") from error
    choice = wire.tool_choice
    return ChatRequest(
        model=wire.model,
        messages=tuple(_messages(wire)),
        tools=_tools(wire.tools or (), fields.get("tools")),
        tool_choice=_tool_choice(choice),
        parallel_tool_calls=(
            False if choice is not None and choice.disable_parallel_tool_use else None
        ),
        response_format=_response_format(wire),
        sampling=Sampling(
            temperature=wire.temperature,
            top_p=wire.top_p,
            top_k=wire.top_k,
            max_output_tokens=wire.max_tokens,
            stop=tuple(wire.stop_sequences or ()),
        ),
        thinking=_thinking(wire),
        user=None if wire.metadata is None else wire.metadata.user_id,
        service_tier=_TIERS.get(wire.service_tier or ""),
        stream=bool(wire.stream),
        include_usage=True,
        dialect="anthropic",
        extra={name: value for name, value in fields.items() if name not in _KNOWN},
    )


def _messages(wire: WireAsked) -> Iterator[Message]:
    if wire.system:
        blocks = wire.system
        yield Message(role="system", parts=texts(blocks, "system"))
    for at, message in enumerate(wire.messages):
        where = f"messages[{at}]"
        content = message.content
        match message.role:
            case "system":
                yield Message(role="system", parts=texts(content or "", f"{where}.content"))
            case "user" if isinstance(content, list):
                yield from _user(content, f"{where}.content")
            case "assistant" if isinstance(content, list):
                yield _assistant(content, f"{where}.content")
            case "user" | "assistant":
                yield Message(role=message.role, parts=(TextPart(text=content or ""),))  # type: ignore[arg-type]  # one of the two
            case other:
                raise InvalidRequest(
                    f"`{where}.role` is unknown: {other!r}.", param=f"{where}.role"
                )


def _user(blocks: list[WireBlock], where: str) -> Iterator[Message]:
    """Yield the tool results, one message each, then what the user says besides."""
    said: list[Part] = []
    answered = False
    for at, block in enumerate(blocks):
        if block.type == "tool_result":
            answered = True
            yield _tool_result(block, f"{where}[{at}]")
        else:
            said += parts_of(block, f"{where}[{at}]")
    if said or not answered:
        yield Message(role="user", parts=tuple(said))


def _tool_result(block: WireBlock, where: str) -> Message:
    if block.tool_use_id is None:
        raise InvalidRequest(f"`{where}.tool_use_id` is required.", param=f"{where}.tool_use_id")
    try:
        content = msgspec.convert(block.content, str | list[WireBlock] | None)
    except msgspec.ValidationError as error:
        raise InvalidRequest(
            f"`{where}.content` is wrong: {error}", param=f"{where}.content"
        ) from error
    if isinstance(content, list):
        parts = tuple(
            part
            for at, inner in enumerate(content)
            for part in parts_of(inner, f"{where}.content[{at}]")
        )
    else:
        parts = (TextPart(text=content),) if content else ()
    # A result that says nothing is a result all the same.
    parts = parts or (TextPart(text=""),)
    return Message(
        role="tool",
        parts=marked(parts, cache_of(block.cache_control)),
        tool_call_id=block.tool_use_id,
        is_error=bool(block.is_error),
    )


def _assistant(blocks: list[WireBlock], where: str) -> Message:
    parts: list[Part] = []
    calls: list[ToolCall] = []
    reasoning = []
    for at, block in enumerate(blocks):
        match block.type:
            case "thinking":
                reasoning.append(unpacked(block.signature or "", text=block.thinking or ""))
            case "redacted_thinking":
                reasoning.append(unpacked(block.data or "", redacted=True))
            case "tool_use":
                calls.append(_tool_use(block, f"{where}[{at}]"))
            case _:
                parts += parts_of(block, f"{where}[{at}]")
    return Message(
        role="assistant",
        parts=tuple(parts),
        tool_calls=tuple(calls),
        reasoning=tuple(reasoning),
    )


def _tool_use(block: WireBlock, where: str) -> ToolCall:
    if block.id is None or block.name is None:
        raise InvalidRequest(f"`{where}` needs `id` and `name`.", param=where)
    arguments = bytes(block.input) or b"{}"
    return ToolCall(
        id=block.id,
        name=block.name,
        arguments=msgspec.json.format(arguments, indent=-1).decode(),
        signature=signature_in(block.extra_content),
        cache=cache_of(block.cache_control),
    )


def _tools(tools: Sequence[WireTool], declared: object) -> tuple[Tool, ...]:
    whole = declared if isinstance(declared, list) else []
    return tuple(
        _tool(tool, own, at) for at, (tool, own) in enumerate(zip(tools, whole, strict=True))
    )


def _tool(wire: WireTool, declared: Mapping[str, object], at: int) -> Tool:
    cache = cache_of(wire.cache_control)
    if wire.type is not None and wire.type != "custom":
        return Tool(name=wire.type, kind="hosted", format=declared, cache=cache)
    if wire.name is None:
        raise InvalidRequest(f"`tools[{at}].name` is required.", param=f"tools[{at}].name")
    return Tool(
        name=wire.name,
        description=wire.description,
        parameters=wire.input_schema,
        strict=wire.strict,
        cache=cache,
    )


def _tool_choice(wire: WireChoice | None) -> ToolChoice | None:
    match wire:
        case None:
            return None
        case WireChoice(type="auto" | "none" as mode):
            return ToolChoice(mode=mode)
        case WireChoice(type="any"):
            return ToolChoice(mode="required")
        case WireChoice(type="tool", name=str(name)):
            return ToolChoice(mode="named", name=name)
        case _:
            raise InvalidRequest("`tool_choice` is of no known form.", param="tool_choice")


def _thinking(wire: WireAsked) -> Thinking | None:
    asked = wire.thinking
    effort = None if wire.output_config is None else wire.output_config.effort
    if asked is None:
        return None if effort is None else Thinking(effort=effort)
    return Thinking(
        effort=effort,
        budget_tokens=asked.budget_tokens,
        enabled=asked.type != "disabled",
        summary=_SUMMARIES.get(asked.display or ""),
    )


def _response_format(wire: WireAsked) -> ResponseFormat | None:
    wanted = wire.output_format
    if wire.output_config is not None and wire.output_config.format is not None:
        wanted = wire.output_config.format
    if wanted is None or wanted.type != "json_schema":
        return None
    schema = wanted.schema or {}
    return ResponseFormat(
        kind="json_schema", name=FORMAT_NAME, schema=schema, strict=_is_strict(schema) or None
    )


def _is_strict(schema: object) -> bool:
    """Return whether it can be held to strictly by all: OpenAI wants every property required."""
    if isinstance(schema, list):
        return all(map(_is_strict, schema))
    if not isinstance(schema, dict):
        return True
    properties = schema.get("properties")
    if isinstance(properties, dict):
        required = schema.get("required")
        named = set(required) if isinstance(required, list) else set()
        if schema.get("additionalProperties") is not False or not named >= set(properties):
            return False
    return all(map(_is_strict, schema.values()))
