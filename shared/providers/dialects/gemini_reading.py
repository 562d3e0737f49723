"""Gemini's answers as deltas: a whole one is read like a stream of one chunk.

Each chunk holds new parts only; calls come whole, usage is cumulative, and the finish reason may
stand before the last part, so it is told at the end.
"""

from datetime import datetime

import msgspec

from shared.chat.message import ImagePart
from shared.chat.response import ChatDelta, FinishReason, ReasoningDelta, ToolDelta
from shared.providers.dialects.gemini_errors import error_inside
from shared.providers.dialects.gemini_extras import (
    Json,
    annotations_of,
    arguments_text,
    kept,
    logprobs_of,
)
from shared.providers.dialects.gemini_finish import finish_of
from shared.providers.dialects.gemini_names import call_id, shown_signature
from shared.providers.dialects.gemini_searches import queries_of, searches
from shared.providers.dialects.gemini_usage import merged, usage_of
from shared.providers.dialects.gemini_wire import (
    Answer,
    Candidate,
    FunctionCall,
    Part,
    PromptFeedback,
    UsageMetadata,
)
from shared.providers.translation import Asked


class _Told:
    """What one candidate has told so far."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.held: list[str] = []
        """Text that counts only if the tool that stands for JSON is not called."""
        self.wrote_json = False
        self.calls = 0
        self.proofs = 0
        self.shows = False
        self.finish: str | None = None
        self.finish_message: str | None = None
        self.extra: Json = {}


class Reading:
    """Reads the chunks of one answer."""

    def __init__(self, asked: Asked, *, vertex: bool) -> None:
        self._asked = asked
        self._vertex = vertex
        self._told: dict[int, _Told] = {}
        self._usage: UsageMetadata | None = None
        self._queries: dict[int, list[str]] = {}
        self._blocked: PromptFeedback | None = None
        self._id = ""
        self._headed = False

    def take(self, answer: Answer) -> list[ChatDelta]:
        """Return what a chunk tells.

        Raises:
            UpstreamError: it is an error.
        """
        if answer.error:
            raise error_inside(answer.error)
        deltas: list[ChatDelta] = []
        if not self._headed:
            deltas.append(self._head(answer))
        for number, candidate in enumerate(answer.candidates or ()):
            deltas += self._candidate(
                number if candidate.index is None else candidate.index, candidate
            )
        if answer.prompt_feedback is not None and answer.prompt_feedback.block_reason:
            self._blocked = answer.prompt_feedback
        if answer.usage_metadata is not None:
            self._usage = merged(self._usage, answer.usage_metadata)
            made = searches(self._asked.model, self._queries.values())
            deltas.append(ChatDelta(usage=usage_of(self._usage, made)))
        return deltas

    def close(self, *, whole: bool = False) -> list[ChatDelta]:
        """Return what the end of the answer tells: sources, extras, and the finish reasons.

        In a stream a candidate without one was cut; a `whole` answer leaves out an unspecified one.

        Raises:
            UpstreamError: the answer broke and holds nothing of use.
        """
        if not self._told and self._blocked is not None:
            return _refused(self._blocked)
        deltas: list[ChatDelta] = []
        for index, told in self._told.items():
            if told.held and not told.wrote_json:
                told.text += told.held
                deltas.append(ChatDelta(choice=index, text="".join(told.held)))
            if told.extra:
                deltas.append(self._besides(index, told))
            reason = told.finish or ("FINISH_REASON_UNSPECIFIED" if whole else None)
            if reason is not None:
                finish = finish_of(
                    reason,
                    told.finish_message,
                    calls=told.calls > 0,
                    says=bool(told.text) or told.shows,
                )
                deltas.append(ChatDelta(choice=index, finish=finish))
        return deltas

    def _head(self, answer: Answer) -> ChatDelta:
        self._headed = True
        self._id = answer.response_id or ""
        return ChatDelta(
            id=answer.response_id,
            model=answer.model_version or self._asked.model,
            created_s=_seconds(answer.create_time),
        )

    def _candidate(self, index: int, candidate: Candidate) -> list[ChatDelta]:
        told = self._told.get(index)
        if told is None:
            told = self._told[index] = _Told()
        told.finish = candidate.finish_reason or told.finish
        told.finish_message = candidate.finish_message or told.finish_message
        told.extra |= kept(candidate)
        if candidate.grounding_metadata is not None:
            self._queries[index] = queries_of(candidate.grounding_metadata)
        deltas: list[ChatDelta] = []
        for part in (candidate.content and candidate.content.parts) or ():
            deltas += self._part(index, told, part)
        if candidate.logprobs_result:
            _add_logprobs(index, candidate.logprobs_result, deltas)
        return deltas

    def _part(self, index: int, told: _Told, part: Part) -> list[ChatDelta]:
        if part.function_call is not None:
            return [self._call(index, told, part.function_call, part.thought_signature)]
        deltas: list[ChatDelta] = []
        if part.text and part.thought:
            deltas.append(ChatDelta(choice=index, reasoning=ReasoningDelta(text=part.text)))
        elif part.text and self._asked.json_tool is not None:
            told.held.append(part.text)
        elif part.text:
            told.text.append(part.text)
            deltas.append(ChatDelta(choice=index, text=part.text))
        elif part.inline_data is not None and part.inline_data.mime_type.startswith("image/"):
            told.shows = True
            url = f"data:{part.inline_data.mime_type};base64,{part.inline_data.data}"
            deltas.append(ChatDelta(choice=index, images=(ImagePart(url=url),)))
        else:
            _keep_other(told, part)
        if part.thought_signature:
            told.proofs += 1
            proof = ReasoningDelta(
                index=told.proofs,  # thoughts have index 0
                signature=shown_signature(part.thought_signature, vertex=self._vertex),
                redacted=True,
                dialect="gemini",
            )
            deltas.append(ChatDelta(choice=index, reasoning=proof))
        return deltas

    def _call(
        self, index: int, told: _Told, call: FunctionCall, signature: str | None
    ) -> ChatDelta:
        arguments = arguments_text(call.args)
        if call.name == self._asked.json_tool:
            # A second one would make two answers.
            text = "" if told.wrote_json else arguments
            told.wrote_json = True
            told.text.append(text)
            return ChatDelta(choice=index, text=text)
        kind = "custom" if call.name in self._asked.custom_tools else "function"
        number, told.calls = told.calls, told.calls + 1
        delta = ToolDelta(
            index=number,
            id=call.id or call_id(self._id or self._asked.nonce, index, number),
            name=self._asked.tool_names.get(call.name, call.name),
            arguments=_free_text(arguments) if kind == "custom" else arguments,
            kind=kind,  # type: ignore[arg-type]  # one of both
            signature=shown_signature(signature, vertex=self._vertex),
        )
        return ChatDelta(choice=index, tool=delta)

    def _besides(self, index: int, told: _Told) -> ChatDelta:
        grounding = told.extra.get("groundingMetadata")
        found = annotations_of(grounding, "".join(told.text)) if grounding else ()
        return ChatDelta(choice=index, annotations=found, extra={f"candidate_{index}": told.extra})


def _refused(blocked: PromptFeedback) -> list[ChatDelta]:
    text = (
        blocked.block_reason_message or f"The provider refused the prompt ({blocked.block_reason})."
    )
    feedback = {name: its for name, its in msgspec.to_builtins(blocked).items() if its is not None}
    return [
        ChatDelta(refusal=text, extra={"promptFeedback": feedback}),
        ChatDelta(finish=FinishReason.CONTENT_FILTER),
    ]


def _add_logprobs(index: int, result: Json, deltas: list[ChatDelta]) -> None:
    found = logprobs_of(result)
    for at, delta in enumerate(deltas):
        if delta.text:
            deltas[at] = msgspec.structs.replace(delta, logprobs=found)
            return
    deltas.append(ChatDelta(choice=index, logprobs=found))


def _keep_other(told: _Told, part: Part) -> None:
    """Keep what has no word here: code that ran, its results, sound."""
    found = msgspec.to_builtins(part)
    shown = {k: v for k, v in found.items() if v is not None and k not in _SEEN}
    if shown:
        told.shows = True
        told.extra.setdefault("parts", []).append(shown)


_SEEN = frozenset({"text", "thought", "thoughtSignature"})


def _free_text(arguments: str) -> str:
    match msgspec.json.decode(arguments):
        case {"input": str(text)}:
            return text
        case _:
            return arguments


def _seconds(moment: str | None) -> int | None:
    try:
        return int(datetime.fromisoformat(moment).timestamp()) if moment else None
    except ValueError:
        return None
