"""Ollama's native answers: one JSON object, or a line of JSON for each piece of a stream."""

import hashlib
from collections.abc import Mapping
from datetime import datetime
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
from shared.errors import UpstreamError
from shared.providers.decoding import PartDecoder, malformed
from shared.providers.dialects.counts import count_of
from shared.providers.dialects.ndjson import LineParser
from shared.providers.dialects.openai_errors import body_of, error_inside, error_of
from shared.providers.head import refuse_body
from shared.providers.translation import Asked, TargetDialect

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class _Function(msgspec.Struct):
    name: str = ""
    arguments: Any = None


class _Call(msgspec.Struct):
    function: _Function
    id: str | None = None


class _Message(msgspec.Struct):
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[_Call] | None = None


class _Line(msgspec.Struct):
    model: str = ""
    created_at: str = ""
    message: _Message | None = None
    done: bool = False
    done_reason: str | None = None
    prompt_eval_count: Any = None
    eval_count: Any = None
    logprobs: list[dict[str, Any]] | None = None
    error: Any = None


_decode = msgspec.json.Decoder(_Line).decode


def parse_response(body: bytes, _asked: Asked) -> ChatResponse:
    """Return a whole answer. Calls without an id are given one, the same for the same answer.

    Raises:
        UpstreamError: MALFORMED when it is not one, or what an `error` inside says.
    """
    line = _line(body)
    if line.message is None or not line.done:
        raise malformed("The provider's answer is not whole.")
    said = line.message
    calls = tuple(_call(call, line, number) for number, call in enumerate(said.tool_calls or ()))
    choice = ChatChoice(
        text=said.content if said.content or not calls else None,
        reasoning=(Reasoning(text=said.thinking),) if said.thinking else (),
        tool_calls=calls,
        finish=_finish(line.done_reason, has_calls=bool(calls)),
        logprobs=tuple(line.logprobs or ()),
    )
    return ChatResponse(
        id=_id("chatcmpl", line),
        model=line.model,
        created_s=_epoch_s(line.created_at),
        choices=(choice,),
        usage=_usage(line),
    )


class OllamaDecoder(PartDecoder[bytes]):
    """Turns the lines of one stream into deltas; its end mark is a line with `done`."""

    def __init__(self, _asked: Asked) -> None:
        super().__init__(LineParser())
        self._headed = False
        self._calls = 0

    @override
    def _read(self, part: bytes, deltas: list[ChatDelta]) -> bool:
        line = _line(part)
        deltas += self._deltas(line)
        return line.done

    def _deltas(self, line: _Line) -> list[ChatDelta]:
        deltas: list[ChatDelta] = []
        if not self._headed:
            self._headed = True
            created_s = _epoch_s(line.created_at)
            deltas.append(
                ChatDelta(id=_id("chatcmpl", line), model=line.model, created_s=created_s)
            )
        said = line.message or _Message()
        if said.thinking:
            deltas.append(ChatDelta(reasoning=ReasoningDelta(text=said.thinking)))
        if said.content or line.logprobs:
            logprobs = tuple(line.logprobs or ())
            deltas.append(ChatDelta(text=said.content or "", logprobs=logprobs))
        deltas += [ChatDelta(tool=self._tool(call, line)) for call in said.tool_calls or ()]
        if line.done:
            finish = _finish(line.done_reason, has_calls=self._calls > 0)
            deltas.append(ChatDelta(finish=finish, usage=_usage(line)))
        return deltas

    def _tool(self, wire: _Call, line: _Line) -> ToolDelta:
        """Return a whole call. The server's own index may be 0 for all."""
        number, self._calls = self._calls, self._calls + 1
        call = _call(wire, line, number)
        return ToolDelta(index=number, id=call.id, name=call.name, arguments=call.arguments)


def refuse_head(headers: Mapping[str, str]) -> UpstreamError | None:
    """Return why a 2xx answer cannot be a stream of lines, or None."""
    return refuse_body(headers)


def _line(raw: bytes) -> _Line:
    try:
        line = _decode(raw)
    except UNREADABLE as error:
        raise malformed("The provider sent something that is not the JSON of an answer.") from error
    if line.error:
        raise error_inside(body_of(line.error))
    return line


def _call(wire: _Call, line: _Line, number: int) -> ToolCall:
    given = wire.function.arguments
    if isinstance(given, str):
        arguments = given or "{}"
    else:
        arguments = msgspec.json.encode({} if given is None else given).decode()
    name = wire.function.name
    return ToolCall(
        id=wire.id or _id("call", line, f"{number} {name} {arguments}"),
        name=name,
        arguments=arguments,
    )


def _id(kind: str, line: _Line, more: str = "") -> str:
    """Return an id made of the moment of the answer, which has nanoseconds."""
    seed = f"{line.model} {line.created_at} {more}".encode()
    return f"{kind}_{hashlib.blake2b(seed, digest_size=12).hexdigest()}"


def _finish(reason: str | None, *, has_calls: bool) -> FinishReason:
    if reason == "length":
        return FinishReason.LENGTH
    return FinishReason.TOOL_CALLS if has_calls else FinishReason.STOP


def _usage(line: _Line) -> Usage | None:
    """Return the counts; that of the prompt is absent when the prompt was in the server's cache."""
    read, written = count_of(line.prompt_eval_count), count_of(line.eval_count)
    if read is None and written is None:
        return None
    return Usage(input_tokens=read or 0, output_tokens=written or 0)


def _epoch_s(moment: str) -> int:
    """Return RFC 3339 with nanoseconds as epoch seconds, 0 for anything else."""
    text, dot, rest = moment.partition(".")
    zone = rest.lstrip("0123456789") if dot else ""
    try:
        return int(datetime.fromisoformat(text + zone).timestamp())
    except ValueError:
        return 0


OLLAMA = TargetDialect(
    name="ollama",
    parse_response=parse_response,
    error_of=lambda response, secret: error_of(response, secret=secret),
    refuse_head=refuse_head,
    decoder=OllamaDecoder,
)
