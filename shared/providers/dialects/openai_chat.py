"""OpenAI's dialect as a target of translation: four pure functions over the canonical chat."""

from collections.abc import Mapping

import msgspec

from shared.chat.message import (
    AudioPart,
    FilePart,
    ImagePart,
    Message,
    Part,
    RefusalPart,
    TextPart,
)
from shared.chat.request import ChatRequest, Sampling, Tool, ToolChoice
from shared.chat.response import (
    ChatChoice,
    ChatDelta,
    ChatResponse,
    FinishReason,
    ReasoningDelta,
    ToolDelta,
)
from shared.errors import FailureKind, UpstreamError
from shared.providers.dialects.openai_errors import body_of, error_inside, error_of, read_error
from shared.providers.dialects.openai_reasoning import read_reasoning, render_details
from shared.providers.dialects.openai_render import render_call
from shared.providers.dialects.openai_served import signature_in, tool_call
from shared.providers.dialects.openai_stream import FAILED_FINISHES, UNREADABLE
from shared.providers.dialects.openai_usage import usage_from, usage_in
from shared.providers.dialects.openai_wire import WireAnswer, WireCall, WireChoice, WireMessage
from shared.providers.dialects.sse import EventTooLarge, SseEvent, SseParser
from shared.providers.head import refuse_stream
from shared.providers.translation import Asked, Built, Decoded, TargetDialect

__all__ = ["CHAT", "OpenAIDecoder", "build_request", "parse_response"]

FINISHES = {
    "stop": FinishReason.STOP,
    "eos": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "model_length": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.CONTENT_FILTER,
    "sensitive": FinishReason.CONTENT_FILTER,
}
"""Vendors' words (Together's eos, Mistral's model_length, Z.ai's sensitive); others mean stop."""

_decode = msgspec.json.Decoder(WireAnswer).decode


def build_request(chat: ChatRequest) -> Built:
    """Return the question for an OpenAI-compatible server; nothing is sent that was not asked for.

    Tool settings without tools are left out: servers refuse them.
    """
    body: dict[str, object] = {
        "model": chat.model,
        "messages": [_message(message) for message in chat.messages],
        **_sampling(chat.sampling),
    }
    if chat.tools:
        body["tools"] = [_tool(tool) for tool in chat.tools]
        if chat.tool_choice is not None:
            body["tool_choice"] = _tool_choice(chat.tool_choice, chat.tools)
        if chat.parallel_tool_calls is not None:
            body["parallel_tool_calls"] = chat.parallel_tool_calls
    if chat.response_format is not None:
        wanted = chat.response_format
        body["response_format"] = {"type": wanted.kind}
        if wanted.kind == "json_schema":
            schema = {
                "name": wanted.name,
                "description": wanted.description,
                "schema": wanted.schema,
                "strict": wanted.strict,
            }
            body["response_format"] = {"type": wanted.kind, "json_schema": _present(schema)}
    effort = None if chat.thinking is None else chat.thinking.effort
    body |= _present({
        "reasoning_effort": effort,
        "user": chat.user,
        "metadata": chat.metadata,
        "service_tier": chat.service_tier,
    })  # fmt: skip
    if chat.stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return Built(body={**chat.extra, **body}, asked=Asked(model=chat.model, tools=bool(chat.tools)))


def parse_response(body: bytes, _asked: Asked = Asked()) -> ChatResponse:  # noqa: B008 (frozen)
    """Return a whole answer.

    Raises:
        UpstreamError: MALFORMED when it is not one, or what an `error` inside says.
    """
    try:
        answer = _decode(body)
    except UNREADABLE as error:
        raise _malformed("The provider's answer is not the JSON of an answer.") from error
    if answer.error:
        raise error_inside(body_of(answer.error))
    if not answer.choices:
        raise _malformed("The provider's answer has no `choices`.")
    return ChatResponse(
        id=answer.id or "",
        model=answer.model or "",
        created_s=int(answer.created or 0),
        choices=tuple(_choice(choice) for choice in answer.choices),
        usage=usage_from(usage_in({"usage": answer.usage, "x_groq": answer.x_groq})),
    )


class OpenAIDecoder:
    """Turns the bytes of one stream into deltas."""

    def __init__(self, _asked: Asked = Asked()) -> None:  # noqa: B008 (frozen)
        self._parser = SseParser()
        self._headed = False

    def feed(self, chunk: bytes) -> Decoded:
        """Take the next bytes."""
        try:
            events = self._parser.feed(chunk)
        except EventTooLarge as error:
            return Decoded(error=_malformed(f"The provider's stream is unreadable: {error}."))
        return self._decoded(events)

    def finish(self) -> Decoded:
        """Take the orderly end of the connection."""
        return self._decoded(self._parser.finish())

    def _decoded(self, events: list[SseEvent]) -> Decoded:
        deltas: list[ChatDelta] = []
        for event in events:
            if event.data.startswith(b"[DONE]"):
                return Decoded(deltas=tuple(deltas), ended=True)
            try:
                deltas += self._event(event)
            except UpstreamError as error:
                return Decoded(deltas=tuple(deltas), error=error)
        return Decoded(deltas=tuple(deltas))

    def _event(self, event: SseEvent) -> list[ChatDelta]:
        if event.name == b"error":
            raise error_inside(read_error(event.data))
        try:
            chunk = _decode(event.data)
        except UNREADABLE as error:
            raise _malformed("The provider's stream holds an event that is not a chunk.") from error
        if chunk.error:
            raise error_inside(body_of(chunk.error))
        deltas = [delta for choice in chunk.choices or () for delta in _deltas(choice)]
        usage = usage_from(usage_in({"usage": chunk.usage, "x_groq": chunk.x_groq}))
        if usage is not None:
            deltas.append(ChatDelta(usage=usage))
        if not self._headed and chunk.id:
            self._headed = True
            created_s = int(chunk.created or 0)
            deltas.insert(0, ChatDelta(id=chunk.id, model=chunk.model, created_s=created_s))
        return deltas


def finish_of(reason: str | None, *, has_calls: bool) -> FinishReason | None:
    """Return the canonical reason; None for none, and for an empty one without tool calls.

    Raises:
        UpstreamError: the word means that the answer broke.
    """
    if reason in FAILED_FINISHES:
        raise UpstreamError(
            FailureKind.SERVER_ERROR, f"The provider broke off its answer ({reason})."
        )
    if not reason:
        return FinishReason.TOOL_CALLS if has_calls and reason == "" else None
    return FINISHES.get(reason, FinishReason.STOP)


def _choice(wire: WireChoice) -> ChatChoice:
    message = wire.message or WireMessage()
    calls = tuple(tool_call(call) for call in message.tool_calls or ())
    return ChatChoice(
        index=wire.index or 0,
        text=_text(message),
        reasoning=read_reasoning(
            message.reasoning_content or message.reasoning, message.reasoning_details
        ),
        refusal=message.refusal,
        tool_calls=calls,
        finish=finish_of(wire.finish_reason, has_calls=bool(calls)),
        annotations=tuple(message.annotations or ()),
        logprobs=_logprobs(wire),
    )


def _deltas(wire: WireChoice) -> list[ChatDelta]:
    index, message = wire.index or 0, wire.delta or WireMessage()
    thoughts = _thoughts(message)
    said = ChatDelta(
        choice=index,
        text=_text(message),
        reasoning=thoughts[0] if thoughts else None,
        refusal=message.refusal,
        annotations=tuple(message.annotations or ()),
        logprobs=_logprobs(wire),
    )
    deltas = [] if said == ChatDelta(choice=index) else [said]
    deltas += [ChatDelta(choice=index, reasoning=more) for more in thoughts[1:]]
    deltas += [ChatDelta(choice=index, tool=_tool_delta(c)) for c in message.tool_calls or ()]
    finish = finish_of(wire.finish_reason, has_calls=bool(message.tool_calls))
    if finish is not None:
        deltas.append(ChatDelta(choice=index, finish=finish))
    return deltas


def _thoughts(message: WireMessage) -> list[ReasoningDelta]:
    details = message.reasoning_details
    text = message.reasoning_content or message.reasoning or None
    numbers = [
        detail.get("index", 0) if isinstance(detail, dict) else 0
        for detail in (details if isinstance(details, list) else ())
    ]
    pieces = read_reasoning(text, details)
    if len(numbers) != len(pieces):
        numbers = list(range(len(pieces)))
    return [
        ReasoningDelta(index=number, **msgspec.structs.asdict(piece))
        for number, piece in zip(numbers, pieces, strict=True)
    ]


def _logprobs(wire: WireChoice) -> tuple[Mapping[str, object], ...]:
    match wire.logprobs:
        case {"content": list(tokens)}:
            return tuple(token for token in tokens if isinstance(token, dict))
        case _:
            return ()


def _tool_delta(wire: WireCall) -> ToolDelta:
    called = wire.function or wire.custom
    arguments = "" if called is None else called.arguments or called.input or ""
    name = None if called is None else called.name or None
    return ToolDelta(
        index=wire.index or 0,
        id=wire.id or None,
        name=name,
        arguments=arguments,
        kind="function" if wire.custom is None else "custom",
        signature=signature_in(wire.extra_content),
    )


def _text(message: WireMessage) -> str | None:
    if isinstance(message.content, list):
        return "".join(part.text or "" for part in message.content)
    return message.content


def _message(message: Message) -> dict[str, object]:
    return _present({
        "role": message.role,
        "content": _content(message),
        "name": message.name,
        "tool_calls": [render_call(call) for call in message.tool_calls] or None,
        "tool_call_id": message.tool_call_id,
        "reasoning_content": message.thoughts or None,
        "reasoning_details": render_details(message.reasoning) or None,
    })  # fmt: skip


def _content(message: Message) -> object:
    match message.parts:
        case ():
            return None
        case (TextPart(text=text),):
            return text
        case parts:
            return [_part(part) for part in parts]


def _part(part: Part) -> dict[str, object]:
    match part:
        case TextPart():
            return {"type": "text", "text": part.text}
        case ImagePart():
            image = _present({"url": part.url, "detail": part.detail})
            return {"type": "image_url", "image_url": image}
        case AudioPart():
            return {
                "type": "input_audio",
                "input_audio": {"data": part.data, "format": part.format},
            }
        case FilePart():
            file = {
                "file_id": part.file_id,
                "filename": part.filename,
                "file_data": part.data_url,
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


def _sampling(sampling: Sampling) -> dict[str, object]:
    fields = msgspec.structs.asdict(sampling)
    fields["max_completion_tokens"] = fields.pop("max_output_tokens")
    fields["stop"] = list(sampling.stop) or None
    return _present(fields)


def _present(fields: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in fields.items() if value is not None}


def _malformed(message: str) -> UpstreamError:
    return UpstreamError(FailureKind.MALFORMED, message)


CHAT = TargetDialect(
    name="openai",
    parse_response=parse_response,
    error_of=lambda response, secret: error_of(response, secret=secret),
    refuse_head=refuse_stream,
    decoder=OpenAIDecoder,
)
"""OpenAI's chat completions, and what imitates them."""
