"""OpenAI's dialect as a target of translation: its answers, streams and errors, read.

`openai_request` builds the question. Answers are mended first, for imitators take the form lightly.
"""

from collections.abc import Mapping

import msgspec
from typing_extensions import override

from shared.chat.message import ImagePart
from shared.chat.response import (
    ChatChoice,
    ChatDelta,
    ChatResponse,
    FinishReason,
    ReasoningDelta,
    ToolDelta,
)
from shared.errors import FailureKind, UpstreamError
from shared.providers.decoding import PartDecoder, malformed
from shared.providers.dialects.openai_errors import body_of, error_inside, error_of, read_error
from shared.providers.dialects.openai_mend import Mender
from shared.providers.dialects.openai_reasoning import read_reasoning
from shared.providers.dialects.openai_request import build_request
from shared.providers.dialects.openai_served import signature_in, tool_call
from shared.providers.dialects.openai_stream import FAILED_FINISHES, UNREADABLE
from shared.providers.dialects.openai_usage import named_tier, usage_from
from shared.providers.dialects.openai_wire import WireAnswer, WireCall, WireChoice, WireMessage
from shared.providers.dialects.sse import SseEvent, SseParser
from shared.providers.head import refuse_stream
from shared.providers.translation import Asked, TargetDialect

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

_KNOWN = frozenset({*WireAnswer.__struct_fields__, "object", "obfuscation", "sluiceway"})
_decode = msgspec.json.Decoder(dict[str, object]).decode


def parse_response(body: bytes, asked: Asked = Asked()) -> ChatResponse:  # noqa: B008 (frozen)
    """Return a whole answer. What it tells besides, in its vendor's words, is `extra`.

    Raises:
        UpstreamError: MALFORMED when it is not one, or what an `error` inside says.
    """
    try:
        fields = Mender(asked.tool_names, model=asked.model).whole(_decode(body))
        answer = msgspec.convert(fields, WireAnswer)
    except UNREADABLE as error:
        raise malformed("The provider's answer is not the JSON of an answer.") from error
    if answer.error:
        raise error_inside(body_of(answer.error))
    if not answer.choices:
        raise malformed("The provider's answer has no `choices`.")
    return ChatResponse(
        id=answer.id or "",
        model=answer.model or "",
        created_s=int(answer.created or 0),
        choices=tuple(_choice(choice) for choice in answer.choices),
        usage=usage_from(answer.usage, answer.service_tier),
        extra=_extra(fields),
    )


class OpenAIDecoder(PartDecoder[SseEvent]):
    """Turns the bytes of one stream into deltas."""

    def __init__(self, asked: Asked = Asked()) -> None:  # noqa: B008 (frozen)
        super().__init__(SseParser())
        self._mender = Mender(asked.tool_names, model=asked.model)
        self._headed = False
        self._tier: str | None = None

    @override
    def _read(self, part: SseEvent, deltas: list[ChatDelta]) -> bool:
        if part.data.startswith(b"[DONE]"):
            for late in self._mender.ending():
                deltas += self._chunk(msgspec.convert(late, WireAnswer))
            return True
        deltas += self._event(part)
        return False

    def _event(self, event: SseEvent) -> list[ChatDelta]:
        if event.name == b"error":
            raise error_inside(read_error(event.data))
        try:
            fields = self._mender.chunk(_decode(event.data))
            chunk = msgspec.convert(fields or {}, WireAnswer)
        except UNREADABLE as error:
            raise malformed("The provider's stream holds an event that is not a chunk.") from error
        if chunk.error:
            raise error_inside(body_of(chunk.error))
        return self._chunk(chunk)

    def _chunk(self, chunk: WireAnswer) -> list[ChatDelta]:
        if any(choice.message and not choice.delta for choice in chunk.choices or ()):
            raise malformed("The provider answered a stream with a whole answer.")
        deltas = [delta for choice in chunk.choices or () for delta in _deltas(choice)]
        self._tier = named_tier(chunk.service_tier) or self._tier
        usage = None if chunk.usage is None else usage_from(chunk.usage, self._tier)
        if usage is not None:
            deltas.append(ChatDelta(usage=usage))
        if not self._headed and chunk.id:
            self._headed = True
            head = ChatDelta(
                id=chunk.id,
                model=chunk.model,
                created_s=int(chunk.created or 0),
                service_tier=self._tier,
            )
            deltas.insert(0, head)
        return deltas


def _extra(fields: Mapping[str, object]) -> dict[str, object]:
    """Return what an answer holds that no word here is for; another gateway's own is taken in."""
    extra = {name: fields[name] for name in fields.keys() - _KNOWN if fields[name] is not None}
    match fields.get("sluiceway"):
        case {"extra": dict(theirs)}:
            return {**extra, **theirs}
        case _:
            return extra


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
    message = wire.message
    finish = finish_of(wire.finish_reason, has_calls=bool(message and message.tool_calls))
    if message is None:
        raise malformed("The provider's answer has a choice without a `message`.")
    return ChatChoice(
        index=wire.index or 0,
        text=_text(message),
        reasoning=read_reasoning(
            message.reasoning_content or message.reasoning, message.reasoning_details
        ),
        refusal=message.refusal,
        tool_calls=tuple(tool_call(call) for call in message.tool_calls or ()),
        finish=finish,
        annotations=tuple(message.annotations or ()),
        logprobs=_logprobs(wire),
        images=_images(message),
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
        images=_images(message),
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


def _images(message: WireMessage) -> tuple[ImagePart, ...]:
    """Return made images, as OpenRouter shows them."""
    found = message.images if isinstance(message.images, list) else ()
    urls = [image.get("image_url") for image in found if isinstance(image, dict)]
    return tuple(
        ImagePart(url=url["url"])
        for url in urls
        if isinstance(url, dict) and isinstance(url.get("url"), str)
    )


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


CHAT = TargetDialect(
    name="openai",
    parse_response=parse_response,
    error_of=lambda response, secret: error_of(response, secret=secret),
    refuse_head=refuse_stream,
    decoder=OpenAIDecoder,
)
"""OpenAI's chat completions, and what imitates them."""
