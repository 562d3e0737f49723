"""AWS Bedrock's Converse dialect: answers read whole and from event streams.

`bedrock_request.py` builds the questions, `bedrock_errors.py` reads the failures.
"""

from collections.abc import Mapping

import msgspec

from shared.chat.message import Reasoning, ToolCall
from shared.chat.response import ChatChoice, ChatResponse, FinishReason
from shared.errors import FailureKind, UpstreamError
from shared.providers.dialects.bedrock_errors import error_of
from shared.providers.dialects.bedrock_models import family_of
from shared.providers.dialects.bedrock_reading import (
    extra_of,
    finish_of,
    free_text,
    proof_of,
    tier_of,
    usage_of,
)
from shared.providers.dialects.bedrock_request import build_request
from shared.providers.dialects.bedrock_stream import BedrockDecoder
from shared.providers.dialects.bedrock_wire import (
    Answer,
    ContentBlock,
    ReasoningContent,
    ToolUse,
    leniently,
)
from shared.providers.head import refuse_body
from shared.providers.translation import Asked, TargetDialect

__all__ = ["BEDROCK", "build_request", "parse_response"]

STREAM_TYPE = "application/vnd.amazon.eventstream"
_decode = leniently(msgspec.json.Decoder(Answer).decode)


def parse_response(body: bytes, asked: Asked) -> ChatResponse:
    """Return a whole answer.

    Raises:
        UpstreamError: MALFORMED when it is none, or its model broke off.
    """
    try:
        answer = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _malformed("The provider's answer is not the JSON of an answer.") from error
    if answer.output is None or answer.output.message is None:
        raise _malformed("The provider's answer has no message.")
    reading = _Reading(asked)
    for block in answer.output.message.content:
        reading.take(block)
    choice = reading.choice(answer.stop_reason)
    extra = extra_of(answer)
    if reading.citations:
        extra["citations"] = reading.citations
    return ChatResponse(
        model=asked.model,
        choices=(choice,),
        usage=usage_of(answer.usage, tier_of(answer)),
        extra=extra,
    )


class _Reading:
    """The content of one answer, block by block."""

    def __init__(self, asked: Asked) -> None:
        self.citations: list[Mapping[str, object]] = []
        self._asked = asked
        self._signs = family_of(asked.model).signs
        self._texts: list[str] = []
        self._thoughts: list[Reasoning] = []
        self._calls: list[ToolCall] = []
        self._json: str | None = None

    def take(self, block: ContentBlock) -> None:
        """Take the next block; kinds without a word here are passed over."""
        if block.text is not None:
            self._texts.append(block.text)
        elif block.citations_content is not None:
            self._texts += [piece.text for piece in block.citations_content.content]
            self.citations += block.citations_content.citations
        elif block.reasoning_content is not None:
            self._thoughts.append(self._thought(block.reasoning_content))
        elif block.tool_use is not None:
            self._call(block.tool_use)

    def choice(self, stop_reason: str | None) -> ChatChoice:
        """Return the answer; of one bound to a form, that form alone is its text."""
        text = "".join(self._texts) if self._texts else None
        finish: FinishReason = finish_of(stop_reason, called=bool(self._calls))
        return ChatChoice(
            text=self._json if self._json is not None else text,
            reasoning=tuple(self._thoughts),
            tool_calls=tuple(self._calls),
            finish=finish,
        )

    def _thought(self, wire: ReasoningContent) -> Reasoning:
        if wire.redacted_content is not None:
            proof = proof_of(wire.redacted_content)
            return Reasoning(signature=proof, redacted=True, dialect=self._signs)
        said = wire.reasoning_text
        if said is None:
            return Reasoning(dialect=self._signs)
        return Reasoning(text=said.text, signature=said.signature, dialect=self._signs)

    def _call(self, wire: ToolUse) -> None:
        arguments = {} if wire.input is None else wire.input
        if wire.name == self._asked.json_tool:
            self._json = msgspec.json.encode(arguments).decode()
            return
        custom = wire.name in self._asked.custom_tools
        given = free_text(arguments) if custom else msgspec.json.encode(arguments).decode()
        self._calls.append(
            ToolCall(
                id=self._asked.call_ids.get(wire.tool_use_id, wire.tool_use_id),
                name=self._asked.tool_names.get(wire.name, wire.name),
                arguments=given,
                kind="custom" if custom else "function",
            )
        )


def _refuse_head(headers: Mapping[str, str]) -> UpstreamError | None:
    refused = refuse_body(headers)
    if refused is not None:
        return refused
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in {STREAM_TYPE, "application/octet-stream", ""}:
        return _malformed(f"The provider answered a stream with {media_type[:80]}.")
    return None


def _malformed(message: str) -> UpstreamError:
    return UpstreamError(FailureKind.MALFORMED, message)


BEDROCK = TargetDialect(
    name="bedrock",
    parse_response=parse_response,
    error_of=error_of,
    refuse_head=_refuse_head,
    decoder=BedrockDecoder,
)
"""Converse and ConverseStream, read."""
