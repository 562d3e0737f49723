"""A conversation as Gemini's `systemInstruction` and `contents`.

Rules of the API: roles are user and model, adjacent ones are joined; the first is the user; no
content is empty; the results of one turn's calls stand alone in one content, one for each call.
"""

from collections.abc import Mapping, Sequence

from shared.chat.message import Message, TextPart, ToolCall
from shared.errors import InvalidRequest
from shared.providers.dialects.gemini_models import Gemini
from shared.providers.dialects.gemini_names import DUMMY_SIGNATURE, ToolNames, sent_signature
from shared.providers.dialects.gemini_parts import Json, arguments_of, parts_of, result_of
from shared.providers.request import FetchedFile

NOTHING_SAID: Json = {"role": "user", "parts": [{"text": "."}]}
"""Stands where the API wants a user and the caller has none."""

_INSTRUCTING = ("system", "developer")


def conversation(
    messages: Sequence[Message],
    model: Gemini,
    names: ToolNames,
    files: Mapping[str, FetchedFile],
) -> Json:
    """Return `contents`, and `systemInstruction` of the leading system and developer messages.

    Those in mid-conversation stay at their place, as a user's words between `<system>` tags.

    Raises:
        InvalidRequest: a call has no result, or a result no call; a file cannot be read.
    """
    first = next((at for at, m in enumerate(messages) if m.role not in _INSTRUCTING), len(messages))
    system = [
        {"text": part.text}
        for message in messages[:first]
        for part in message.parts
        if isinstance(part, TextPart) and part.text
    ]
    contents = _Contents(model, names, files)
    for message in messages[first:]:
        contents.add(message)
    said = contents.finished()
    if not said or said[0]["role"] != "user":
        said.insert(0, NOTHING_SAID)
    return (
        {"systemInstruction": {"parts": system}, "contents": said} if system else {"contents": said}
    )


class _Open:
    """A call of the last turn, and its result as soon as it is known."""

    def __init__(self, call: ToolCall) -> None:
        self.call = call
        self.result: Message | None = None


class _Contents:
    def __init__(self, model: Gemini, names: ToolNames, files: Mapping[str, FetchedFile]) -> None:
        self._model = model
        self._names = names
        self._files = files
        self._contents: list[Json] = []
        self._open: list[_Open] = []
        self._said: list[Json] = []

    def add(self, message: Message) -> None:
        match message.role:
            case "assistant":
                self._settle()
                self._append("model", self._answer(message))
                self._open += [_Open(call) for call in message.tool_calls]
            case "tool":
                self._answer_to(message.tool_call_id).result = message
            case "user":
                self._said += parts_of(message, self._model, self._files)
            case "system" | "developer":
                if message.text:
                    self._said.append({"text": f"<system>\n{message.text}\n</system>"})

    def finished(self) -> list[Json]:
        self._settle()
        return self._contents

    def _answer_to(self, call_id: str | None) -> _Open:
        found = [waiting for waiting in self._open if waiting.call.id == call_id]
        if not found:
            raise InvalidRequest(
                f"The tool message for {call_id!r} answers no call of the turn before it.",
                param="messages",
            )
        return next((waiting for waiting in found if waiting.result is None), found[-1])

    def _settle(self) -> None:
        """Write down what was said to the model since its last turn: results first."""
        results = [self._result(waiting) for waiting in self._open]
        if results:
            self._contents.append({"role": "user", "parts": results})
            self._open = []
        self._append("user", self._said)
        self._said = []

    def _append(self, role: str, parts: list[Json]) -> None:
        last = self._contents[-1] if self._contents else NOTHING_SAID
        joins = last is not NOTHING_SAID and last["role"] == role
        if joins and "functionResponse" not in last["parts"][0]:
            last["parts"] += parts
        elif parts:
            self._contents.append({"role": role, "parts": list(parts)})

    def _result(self, waiting: _Open) -> Json:
        call, message = waiting.call, waiting.result
        if message is None:
            raise InvalidRequest(f"The call {call.id!r} has no tool message.", param="messages")
        answer: Json = {"name": self._names.sent(call.name), "response": result_of(message)}
        if call.id:
            answer = {"id": call.id, **answer}
        shown = [part for part in parts_of(message, self._model, self._files) if "text" not in part]
        if shown and self._model.third:
            answer["parts"] = shown
        elif shown:
            self._said = [{"text": f"What {call.name} returned:"}, *shown, *self._said]
        return {"functionResponse": answer}

    def _answer(self, message: Message) -> list[Json]:
        parts = parts_of(message, self._model, self._files)
        proofs = [
            proof
            for piece in message.reasoning
            if piece.dialect == "gemini"
            and (proof := sent_signature(piece.signature, vertex=self._model.vertex))
        ]
        if parts and proofs:
            parts[-1] = {**parts[-1], "thoughtSignature": proofs[-1]}
        for number, call in enumerate(message.tool_calls):
            parts.append(self._call(call, first=number == 0))
        return parts

    def _call(self, call: ToolCall, *, first: bool) -> Json:
        custom = call.kind == "custom"
        called: Json = {
            "name": self._names.sent(call.name),
            "args": {"input": call.arguments} if custom else arguments_of(call.arguments),
        }
        part: Json = {"functionCall": {"id": call.id, **called} if call.id else called}
        proof = sent_signature(call.signature, vertex=self._model.vertex)
        if proof is None and first and self._model.third:
            proof = DUMMY_SIGNATURE
        if proof is not None:
            part["thoughtSignature"] = proof
        return part
