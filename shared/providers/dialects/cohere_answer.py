"""Cohere's native answers, whole and as events.

It bills other counts than its models read and write (`billed_units`): callers see the tokens, the
books take what is billed.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from typing_extensions import override

from shared.chat.message import Reasoning, ToolCall
from shared.chat.response import (
    ChatChoice,
    ChatDelta,
    ChatResponse,
    FinishReason,
    ReasoningDelta,
    ToolDelta,
)
from shared.chat.usage import Usage
from shared.errors import FailureKind, UpstreamError
from shared.providers.decoding import PartDecoder, malformed
from shared.providers.dialects import openai_errors
from shared.providers.dialects.counts import count_of
from shared.providers.dialects.sse import SseEvent, SseParser
from shared.providers.exchange import HttpResponse
from shared.providers.head import refuse_stream
from shared.providers.translation import Asked, TargetDialect

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
FINISHES = {
    "COMPLETE": FinishReason.STOP,
    "STOP_SEQUENCE": FinishReason.STOP,
    "MAX_TOKENS": FinishReason.LENGTH,
    "TOOL_CALL": FinishReason.TOOL_CALLS,
}
_BROKEN = {"ERROR": FailureKind.SERVER_ERROR, "TIMEOUT": FailureKind.TIMEOUT}
_KINDS = {498: FailureKind.CREDENTIAL, 499: FailureKind.CONNECTION}
"""Cohere's own statuses: an invalid token, and a request that was cancelled."""


class _Counts(msgspec.Struct):
    input_tokens: Any = None
    output_tokens: Any = None


class _Usage(msgspec.Struct):
    billed_units: _Counts | None = None
    tokens: _Counts | None = None
    cached_tokens: Any = None


class _Content(msgspec.Struct):
    type: str | None = None
    text: str | None = None
    thinking: str | None = None


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _Call(msgspec.Struct):
    id: str | None = None
    function: _Function | None = None


class _Message(msgspec.Struct):
    content: list[_Content] | None = None
    tool_calls: list[_Call] | None = None
    tool_plan: str | None = None
    citations: list[dict[str, Any]] | None = None


class _Answer(msgspec.Struct):
    id: str = ""
    message: _Message | None = None
    finish_reason: str | None = None
    usage: _Usage | None = None


class _Piece(msgspec.Struct):
    """`message` of an event's delta; what is a list in a whole answer comes one by one."""

    content: _Content | list[Any] | None = None
    tool_calls: _Call | list[Any] | None = None
    tool_plan: str | None = None
    citations: dict[str, Any] | list[Any] | None = None


class _Delta(msgspec.Struct):
    message: _Piece | None = None
    finish_reason: str | None = None
    usage: _Usage | None = None
    error: str | None = None


class _Event(msgspec.Struct):
    type: str = ""
    id: str | None = None
    index: int | None = None
    delta: _Delta | None = None


_decode = msgspec.json.Decoder(_Answer).decode
_decode_event = msgspec.json.Decoder(_Event).decode


def parse_response(body: bytes, asked: Asked) -> ChatResponse:
    """Return a whole answer; the plan before its calls counts as thought.

    Raises:
        UpstreamError: MALFORMED when it is not one, or what its finish reason says.
    """
    try:
        answer = _decode(body)
    except UNREADABLE as error:
        raise malformed("The provider's answer is not the JSON of an answer.") from error
    said = answer.message
    if said is None or answer.finish_reason is None:
        raise malformed("The provider's answer is not whole.")
    texts = [part.text for part in said.content or () if part.text is not None]
    calls = tuple(_call(call) for call in said.tool_calls or ())
    choice = ChatChoice(
        text="".join(texts) if texts or not calls else None,
        reasoning=_thoughts(said),
        tool_calls=calls,
        finish=_finish(answer.finish_reason, has_calls=bool(calls)),
    )
    return ChatResponse(
        id=answer.id,
        model=asked.model,
        choices=(choice,),
        usage=_tokens(answer.usage),
        billed=_billed(answer.usage),
        extra={"citations": said.citations} if said.citations else {},
    )


class CohereDecoder(PartDecoder[SseEvent]):
    """Turns the events of one stream into deltas; `message-end` is its end mark."""

    def __init__(self, asked: Asked) -> None:
        super().__init__(SseParser())
        self._model = asked.model
        self._calls: dict[int, bool] = {}
        self._citations: list[dict[str, Any]] = []

    @override
    def _read(self, part: SseEvent, deltas: list[ChatDelta]) -> bool:
        found = _read(part)
        deltas += self._deltas(found)
        return found.type == "message-end"

    def _deltas(self, event: _Event) -> list[ChatDelta]:
        delta = event.delta or _Delta()
        said = delta.message or _Piece()
        match event.type:
            case "message-start":
                return [ChatDelta(id=event.id, model=self._model)]
            case "content-start" | "content-delta" if isinstance(said.content, _Content):
                return _content(said.content)
            case "tool-plan-delta" if said.tool_plan:
                return [ChatDelta(reasoning=ReasoningDelta(text=said.tool_plan))]
            case "tool-call-start" | "tool-call-delta" if isinstance(said.tool_calls, _Call):
                return [ChatDelta(tool=self._tool(event.index or 0, said.tool_calls))]
            case "tool-call-end" if not self._calls.get(event.index or 0, True):
                number = list(self._calls).index(event.index or 0)
                return [ChatDelta(tool=ToolDelta(index=number, arguments="{}"))]
            case "citation-start" if isinstance(said.citations, dict):
                self._citations.append(said.citations)
            case "message-end":
                return self._end(delta)
            case _:
                pass
        return []

    def _tool(self, at: int, wire: _Call) -> ToolDelta:
        """Return a piece of a call; calls are numbered in the order in which they begin."""
        function = wire.function or _Function()
        arguments = function.arguments or ""
        self._calls[at] = self._calls.get(at, False) or bool(arguments)
        return ToolDelta(
            index=list(self._calls).index(at),
            id=wire.id,
            name=function.name,
            arguments=arguments,
        )

    def _end(self, delta: _Delta) -> list[ChatDelta]:
        extra = {"citations": self._citations} if self._citations else None
        return [
            ChatDelta(
                finish=_finish(delta.finish_reason or "COMPLETE", has_calls=bool(self._calls)),
                usage=_tokens(delta.usage),
                billed=_billed(delta.usage),
                extra=extra,
            )
        ]


def error_of(response: HttpResponse, secret: str | None) -> UpstreamError:
    """Return what an answer other than 2xx means."""
    error = openai_errors.error_of(response, secret=secret)
    error.kind = _KINDS.get(response.status, error.kind)
    return error


def _read(event: SseEvent) -> _Event:
    if event.data.startswith(b"[DONE]"):
        raise malformed("The provider ended its stream before its answer.")
    try:
        found = _decode_event(event.data)
    except UNREADABLE as error:
        raise malformed("The provider's stream holds an event that is unknown.") from error
    if not found.type:
        raise openai_errors.error_inside(openai_errors.read_error(event.data))
    return found


def _content(wire: _Content) -> list[ChatDelta]:
    deltas = []
    if wire.thinking:
        deltas.append(ChatDelta(reasoning=ReasoningDelta(text=wire.thinking)))
    if wire.text:
        deltas.append(ChatDelta(text=wire.text))
    return deltas


def _thoughts(said: _Message) -> tuple[Reasoning, ...]:
    thoughts = [part.thinking for part in said.content or () if part.thinking]
    text = "".join([said.tool_plan or "", *thoughts])
    return (Reasoning(text=text),) if text else ()


def _call(wire: _Call) -> ToolCall:
    function = wire.function or _Function()
    return ToolCall(
        id=wire.id or "", name=function.name or "", arguments=function.arguments or "{}"
    )


def _finish(reason: str, *, has_calls: bool) -> FinishReason:
    if reason in _BROKEN:
        raise UpstreamError(_BROKEN[reason], f"The provider broke off its answer ({reason}).")
    finish = FINISHES.get(reason, FinishReason.STOP)
    return FinishReason.TOOL_CALLS if has_calls and finish is FinishReason.STOP else finish


def _tokens(usage: _Usage | None) -> Usage | None:
    if usage is None or (usage.tokens is None and usage.billed_units is None):
        return None
    counts = _usage(usage.tokens or usage.billed_units)
    cached = min(count_of(usage.cached_tokens) or 0, counts.input_tokens)
    return msgspec.structs.replace(counts, cache_read_tokens=cached)


def _billed(usage: _Usage | None) -> Usage | None:
    return None if usage is None or usage.billed_units is None else _usage(usage.billed_units)


def _usage(counts: _Counts | None) -> Usage:
    found = counts or _Counts()
    return Usage(
        input_tokens=count_of(found.input_tokens) or 0,
        output_tokens=count_of(found.output_tokens) or 0,
    )


def _refuse_head(headers: Mapping[str, str]) -> UpstreamError | None:
    return refuse_stream(headers)


COHERE = TargetDialect(
    name="cohere",
    parse_response=parse_response,
    error_of=error_of,
    refuse_head=_refuse_head,
    decoder=CohereDecoder,
)
