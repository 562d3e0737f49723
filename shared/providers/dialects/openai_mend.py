"""Answers of OpenAI's imitators, made what its SDKs demand; what needs nothing stays untouched.

Chunks and whole answers are plain JSON values here. What is mended, and who needs it:

| what comes | from | what becomes of it |
|---|---|---|
| `reasoning`, or thinking parts in a content list | Groq, vLLM, Mistral | `reasoning_content` |
| `finish_reason: ""`, twice, or a word of one's own | xAI, OpenRouter, Together | one of OpenAI's |
| `tool_calls` null or empty | Mistral, vLLM | left out |
| entries without index, id or type, or with them again | many | index from 0, the rest once |
| arguments as an object | llama.cpp | JSON text |
| choice 1 before choice 0 | many | choice 0 opens first |
| choices without `delta`, chunks without id and choices | Azure's filters | passed over |
| usage elsewhere, or counted otherwise | Groq, DeepSeek, xAI | OpenAI's form |
| `id`, `created`, `model` missing or changing | many | those of the first chunk, else ours |
| an error with nothing around it | older vLLM, FastAPI | `error` |
"""

import hashlib
import math
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from shared.providers.dialects.openai_mend_choice import ChoiceState
from shared.providers.dialects.openai_mend_usage import mended_usage
from shared.providers.dialects.openai_sound import SoundChunk

Json = dict[str, Any]

MOST_CHOICES = 1_024
"""More than any vendor gives; an index beyond is nonsense."""

FINISHES = {
    "eos": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "model_length": "length",
    "max_tokens": "length",
    "tool_use": "tool_calls",
    "sensitive": "content_filter",
    "safety": "content_filter",
}
"""Vendors' words by OpenAI's: Together's eos, Mistral's model_length, Z.ai's sensitive; Anthropic's
and Google's, as proxies leak them."""


_SPOKEN = (
    "content",
    "reasoning_content",
    "reasoning",
    "refusal",
    "tool_calls",
    "function_call",
    "audio",
)


class Mender:
    """Mends one answer. `names` are tools' names as sent, by which the caller knows them.

    `changed` says whether the last chunk or answer needed anything. `model` and `created_s` stand
    where the provider tells none.
    """

    def __init__(
        self, names: Mapping[str, str] | None = None, *, model: str = "", created_s: int = 0
    ) -> None:
        self.changed = False
        self._names = names or {}
        self._model = model
        self._created_s = created_s
        self._head: Json = {}
        self._choices: dict[int, ChoiceState] = {}

    def chunk(self, chunk: Json) -> Json | None:
        """Return a chunk as the SDKs' stream helpers want it; None when nothing of it is left."""
        self.changed = False
        if self._has_error(chunk):
            return chunk
        self._mend_usage(chunk)
        has_usage = isinstance(chunk.get("usage"), dict)
        came = chunk.get("choices")
        choices = self._mend_choices(came if isinstance(came, list) else [])
        if not choices and not has_usage and (came or not chunk.get("id")):
            return None
        if choices != came:
            self._set(chunk, "choices", choices)
        self._mend_head(chunk)
        return chunk

    def takes(self, chunk: SoundChunk) -> bool:
        """Return whether a sound chunk needs nothing after those before; else it is not taken."""
        told = {"id": chunk.id, "created": chunk.created, "model": chunk.model}
        if self._head and self._head != told:
            return False
        if chunk.choices:
            choice = chunk.choices[0]
            state = self._choices.get(0)
            opened = state is not None and state.opened
            if opened is chunk.opens() or (state is not None and state.finished):
                return False
            state = self._choices[0] = state or ChoiceState()
            state.opened = True
            state.finished = choice.finish_reason is not None
            if state.empty_finish and choice.delta.says():
                state.empty_finish = False
        self._head = told
        return True

    def ending(self) -> list[Json]:
        """Return the chunks that finish choices whose provider said so with an empty word."""
        due = [(index, choice) for index, choice in self._choices.items() if choice.owes_finish]
        for _, choice in due:
            choice.finished = True
        return [
            {
                **self._head,
                "object": "chat.completion.chunk",
                "choices": [{"index": index, "delta": {}, "finish_reason": choice.likely_finish}],
            }
            for index, choice in due
        ]

    def whole(self, answer: Json) -> Json:
        """Return a whole answer in OpenAI's form."""
        self.changed = False
        if self._has_error(answer) or not isinstance(answer.get("choices"), list):
            return answer
        self._mend_usage(answer)
        if answer.get("object") != "chat.completion":
            self._set(answer, "object", "chat.completion")
        self._mend_id(answer)
        self._mend_created(answer)
        if not answer.get("model") and self._model:
            self._set(answer, "model", self._model)
        self._head = {"id": answer["id"]}
        for place, choice in enumerate(answer["choices"]):
            if isinstance(choice, dict):
                self._mend_whole_choice(choice, place)
        return answer

    def _has_error(self, answer: Json) -> bool:
        """Return whether an error stands in an answer's place, under `error` when it does."""
        if not answer.get("error") and is_bare_error(answer):
            self._set(answer, "error", dict(answer))
        return bool(answer.get("error"))

    def _mend_id(self, answer: Json) -> None:
        own = answer.get("id")
        if not isinstance(own, str) or not own:
            self._set(answer, "id", str(own) if type(own) is int else made_id(answer))

    def _mend_usage(self, answer: Json) -> None:
        usage = mended_usage(answer)
        if usage is not None:
            self._set(answer, "usage", usage)

    def _mend_created(self, answer: Json) -> None:
        created = answer.get("created")
        if type(created) is not int:
            finite = isinstance(created, float) and math.isfinite(created)
            self._set(answer, "created", int(created or 0) if finite else self._created_s)

    def _mend_head(self, chunk: Json) -> None:
        if chunk.get("object") != "chat.completion.chunk":
            self._set(chunk, "object", "chat.completion.chunk")
        if not self._head:
            self._mend_id(chunk)
            self._mend_created(chunk)
            if not chunk.get("model") and self._model:
                self._set(chunk, "model", self._model)
            self._head = {name: chunk.get(name) for name in ("id", "created", "model")}
        for name, value in self._head.items():
            if value in (None, ""):
                self._head[name] = chunk.get(name)
            elif chunk.get(name) != value:
                self._set(chunk, name, value)

    def _mend_choices(self, came: Iterable[Any]) -> list[Json]:
        choices: list[Json] = []
        for choice in came:
            if isinstance(choice, dict) and self._mend_choice(choice):
                choices += self._lower(choice.get("index"))
                choices.append(choice)
        return choices

    def _lower(self, index: object) -> list[Json]:
        """Return what opens the choices before this one, where they have not come yet."""
        due = [one for one in range(index if type(index) is int else 0) if one not in self._choices]
        for one in due:
            self._choices[one] = ChoiceState()
            self._choices[one].opened = True
        opening = {"role": "assistant", "content": ""}
        return [{"index": one, "delta": {**opening}, "finish_reason": None} for one in due]

    def _mend_choice(self, choice: Json) -> bool:
        """Mend one choice of a chunk in place; return whether it says anything."""
        if choice.get("message") is not None and choice.get("delta") is None:
            return True  # a whole answer in a stream: for the reader to refuse
        index = choice.get("index")
        if not isinstance(index, int) or not 0 <= index < MOST_CHOICES:
            index = 0
            self._set(choice, "index", index)
        state = self._choices.get(index)
        if state is None:
            state = self._choices[index] = ChoiceState()
        if not self._mend_finish(choice, state):
            return False
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            if choice.get("finish_reason") is None:
                return False
            delta = {}
            self._set(choice, "delta", delta)
        self._mend_role(delta, state)
        self._mend_message(delta)
        self._mend_entries(delta, state)
        return True

    def _mend_finish(self, choice: Json, state: ChoiceState) -> bool:
        """Return whether the choice may still say something."""
        reason = choice.get("finish_reason")
        if reason is None:
            choice.setdefault("finish_reason", None)
            if state.empty_finish and speaks(choice.get("delta")):
                state.empty_finish = False
            return not state.finished or says(choice.get("delta"))
        if reason == "" or state.finished:
            state.empty_finish = state.empty_finish or reason == ""
            self._set(choice, "finish_reason", None)
            return not state.finished or says(choice.get("delta"))
        if isinstance(reason, str) and reason.lower() in FINISHES:
            self._set(choice, "finish_reason", FINISHES[reason.lower()])
        state.finished = True
        return True

    def _mend_role(self, delta: Json, state: ChoiceState) -> None:
        if state.opened:
            if "role" in delta:
                del delta["role"]
                self.changed = True
        elif delta or not state.finished:
            state.opened = True
            if delta.get("role") != "assistant":
                self._set(delta, "role", "assistant")

    def _mend_message(self, message: Json) -> None:
        """Mend what whole messages and deltas have in common."""
        content = message.get("content")
        if isinstance(content, list):
            text, thought = read_parts(content)
            self._set(message, "content", text)
            if thought:
                self._set(message, "reasoning_content", thought)
        reasoning = message.get("reasoning")
        if isinstance(reasoning, str) and not message.get("reasoning_content"):
            self._set(message, "reasoning_content", reasoning)
        if "tool_calls" in message and not message["tool_calls"]:
            del message["tool_calls"]
            self.changed = True

    def _mend_entries(self, delta: Json, state: ChoiceState) -> None:
        calls = delta.get("tool_calls")
        if not isinstance(calls, list):
            return
        for call in calls:
            if not isinstance(call, dict):
                continue
            index, first = state.place(call)
            if call.get("index") != index:
                self._set(call, "index", index)
            self._mend_called(call)
            if first:
                self._mend_first(call, index)
            else:
                self._mend_later(call)

    def _mend_first(self, call: Json, index: int) -> None:
        if not call.get("id"):
            self._set(call, "id", f"call_{made_id(self._head or call)[9:]}_{index}")
        if not call.get("type"):
            self._set(call, "type", "custom" if "custom" in call else "function")

    def _mend_later(self, call: Json) -> None:
        """Take out what the SDK's helper would put together twice."""
        custom, function = call.get("custom"), call.get("function")
        for place, name in ((call, "id"), (call, "type"), (function, "name"), (custom, "name")):
            if isinstance(place, dict) and name in place:
                del place[name]
                self.changed = True

    def _mend_called(self, call: Json) -> None:
        function = call.get("function")
        if isinstance(function, dict):
            arguments = function.get("arguments")
            if not isinstance(arguments, str):
                text = "" if arguments is None else msgspec.json.encode(arguments).decode()
                self._set(function, "arguments", text)
        for place in (function, call.get("custom")):
            if not isinstance(place, dict):
                continue
            name = place.get("name")
            if isinstance(name, str) and name in self._names:
                self._set(place, "name", self._names[name])

    def _mend_whole_choice(self, choice: Json, place: int) -> None:
        message = choice.get("message")
        if not isinstance(message, dict):
            return
        if not isinstance(choice.get("index"), int):
            self._set(choice, "index", place)
        if message.get("role") != "assistant":
            self._set(message, "role", "assistant")
        self._mend_message(message)
        calls = message.get("tool_calls")
        for number, call in enumerate(calls if isinstance(calls, list) else ()):
            if isinstance(call, dict):
                self._mend_called(call)
                self._mend_first(call, number)
        reason = choice.get("finish_reason")
        if not reason:
            self._set(choice, "finish_reason", "tool_calls" if calls else "stop")
        elif isinstance(reason, str) and reason.lower() in FINISHES:
            self._set(choice, "finish_reason", FINISHES[reason.lower()])

    def _set(self, place: Json, name: str, value: object) -> None:
        place[name] = value
        self.changed = True


def is_bare_error(answer: Json) -> bool:
    """Return whether this is an error's body where an answer or a chunk was expected."""
    if "choices" in answer:
        return False
    return answer.get("object") == "error" or bool(answer.get("detail") or answer.get("message"))


def says(delta: object) -> bool:
    """Return whether a delta holds more than a role and empty values."""
    return isinstance(delta, dict) and any(value for name, value in delta.items() if name != "role")


def speaks(delta: object) -> bool:
    """Return whether a delta holds some of the answer itself."""
    return isinstance(delta, dict) and any(delta.get(name) for name in _SPOKEN)


def read_parts(content: list[Any]) -> tuple[str, str]:
    """Return the text and the thoughts in a content list (Mistral's, in answers and deltas)."""
    text: list[str] = []
    thoughts: list[str] = []
    for part in content:
        match part:
            case {"type": "thinking", "thinking": list(pieces)}:
                thoughts += [piece.get("text") or "" for piece in pieces if isinstance(piece, dict)]
            case {"type": "thinking", "thinking": str(thought)}:
                thoughts.append(thought)
            case {"text": str(piece)}:
                text.append(piece)
            case str(piece):
                text.append(piece)
            case _:
                pass  # references and the like have no words of their own
    return "".join(text), "".join(thoughts)


def made_id(answer: Json) -> str:
    """Return an id for an answer that came without one; the same bytes give the same."""
    own = answer.get("id")
    if isinstance(own, str) and own.startswith("chatcmpl-"):
        return own
    digest = hashlib.blake2b(msgspec.json.encode(answer), digest_size=12).hexdigest()
    return f"chatcmpl-{digest}"
