"""What a model answers, in no vendor's words: whole, or in deltas that fold into the whole."""

import enum
from collections.abc import Iterable

import msgspec

from shared.chat.message import ToolCall
from shared.chat.usage import Usage


class FinishReason(enum.Enum):
    """Why a choice ended."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"


class ChatChoice(msgspec.Struct, frozen=True, kw_only=True):
    """One answer. Texts are None when there is none, empty when the model said nothing."""

    index: int = 0
    text: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    finish: FinishReason | None = None


class ChatResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer. `created_s` is epoch seconds, 0 when the provider does not say."""

    id: str = ""
    model: str = ""
    created_s: int = 0
    choices: tuple[ChatChoice, ...] = ()
    usage: Usage | None = None


class ToolDelta(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of a tool call. `id` and `name` come once, with the first piece of each `index`."""

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


class ChatDelta(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of an answer. Only what is new is set.

    `id`, `model` and `created_s` come with the first delta of a stream; `usage` is cumulative,
    the last one counts.
    """

    choice: int = 0
    text: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool: ToolDelta | None = None
    finish: FinishReason | None = None
    usage: Usage | None = None
    id: str | None = None
    model: str | None = None
    created_s: int | None = None


def fold(deltas: Iterable[ChatDelta]) -> ChatResponse:
    """Return the whole answer that the deltas of one stream make up."""
    folding = _Folding()
    for delta in deltas:
        folding.add(delta)
    return folding.result()


class _Call:
    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.arguments: list[str] = []


class _Choice:
    def __init__(self) -> None:
        self.texts: dict[str, list[str]] = {}
        self.calls: dict[int, _Call] = {}
        self.finish: FinishReason | None = None

    def add(self, delta: ChatDelta) -> None:
        for name in ("text", "reasoning", "refusal"):
            piece = getattr(delta, name)
            if piece is not None:
                self.texts.setdefault(name, []).append(piece)
        if delta.tool is not None:
            call = self.calls.setdefault(delta.tool.index, _Call())
            call.id = call.id or delta.tool.id or ""
            call.name = call.name or delta.tool.name or ""
            call.arguments.append(delta.tool.arguments)
        self.finish = delta.finish or self.finish

    def result(self, index: int) -> ChatChoice:
        calls = [self.calls[number] for number in sorted(self.calls)]
        texts = {name: "".join(pieces) for name, pieces in self.texts.items()}
        return ChatChoice(
            index=index,
            text=texts.get("text"),
            reasoning=texts.get("reasoning"),
            refusal=texts.get("refusal"),
            tool_calls=tuple(
                ToolCall(id=call.id, name=call.name, arguments="".join(call.arguments))
                for call in calls
            ),
            finish=self.finish,
        )


class _Folding:
    def __init__(self) -> None:
        self.choices: dict[int, _Choice] = {}
        self.usage: Usage | None = None
        self.id = self.model = ""
        self.created_s = 0

    def add(self, delta: ChatDelta) -> None:
        self.id = self.id or delta.id or ""
        self.model = self.model or delta.model or ""
        self.created_s = self.created_s or delta.created_s or 0
        self.usage = delta.usage or self.usage
        if _says_something(delta):
            self.choices.setdefault(delta.choice, _Choice()).add(delta)

    def result(self) -> ChatResponse:
        return ChatResponse(
            id=self.id,
            model=self.model,
            created_s=self.created_s,
            choices=tuple(self.choices[index].result(index) for index in sorted(self.choices)),
            usage=self.usage,
        )


def _says_something(delta: ChatDelta) -> bool:
    said = (delta.text, delta.reasoning, delta.refusal, delta.tool, delta.finish)
    return any(part is not None for part in said)
