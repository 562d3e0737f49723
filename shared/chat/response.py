"""What a model answers, in no vendor's words: whole, or in deltas that fold into the whole."""

import enum
from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from shared.chat.message import ImagePart, Reasoning, ToolCall
from shared.chat.usage import Usage


class FinishReason(enum.Enum):
    """Why a choice ended."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"


class ChatChoice(msgspec.Struct, frozen=True, kw_only=True):
    """One answer. Texts are None when there is none, empty when the model said nothing.

    `stop_sequence` is the one that ended it. `annotations` and `logprobs` are in OpenAI's words.
    `images` are those the model made, as data URLs.
    """

    index: int = 0
    text: str | None = None
    reasoning: tuple[Reasoning, ...] = ()
    refusal: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    finish: FinishReason | None = None
    stop_sequence: str | None = None
    annotations: tuple[Mapping[str, object], ...] = ()
    logprobs: tuple[Mapping[str, object], ...] = ()
    images: tuple[ImagePart, ...] = ()


class ChatResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer. `created_s` is epoch seconds, 0 when the provider does not say.

    `billed` are the counts it charges, where they are not those of `usage`.
    `extra` is what a provider tells besides, in its own words: safety ratings, grounding, traces.
    """

    id: str = ""
    model: str = ""
    created_s: int = 0
    choices: tuple[ChatChoice, ...] = ()
    usage: Usage | None = None
    billed: Usage | None = None
    extra: Mapping[str, object] = {}


class ToolDelta(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of a tool call. `id` and `name` come once, with the first piece of each `index`.

    `kind` is that of the first piece.
    """

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""
    kind: Literal["function", "custom"] = "function"
    signature: str | None = None


class ReasoningDelta(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of the `index`th block of reasoning; the fields are those of Reasoning.

    Texts of one block add up; its signature comes once, mostly last.
    """

    index: int = 0
    text: str = ""
    signature: str | None = None
    redacted: bool = False
    dialect: str | None = None
    id: str | None = None


class ChatDelta(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of an answer. Only what is new is set.

    `id`, `model` and `created_s` come with the first delta of a stream, and `service_tier` where
    it is told so early; `usage` is cumulative, the last one counts.
    """

    choice: int = 0
    text: str | None = None
    reasoning: ReasoningDelta | None = None
    refusal: str | None = None
    tool: ToolDelta | None = None
    finish: FinishReason | None = None
    stop_sequence: str | None = None
    annotations: tuple[Mapping[str, object], ...] = ()
    logprobs: tuple[Mapping[str, object], ...] = ()
    images: tuple[ImagePart, ...] = ()
    usage: Usage | None = None
    billed: Usage | None = None
    id: str | None = None
    model: str | None = None
    created_s: int | None = None
    service_tier: str | None = None
    extra: Mapping[str, object] | None = None


def fold(deltas: Iterable[ChatDelta]) -> ChatResponse:
    """Return the whole answer that the deltas of one stream make up."""
    folding = Folding()
    for delta in deltas:
        folding.add(delta)
    return folding.result()


class _Call:
    def __init__(self, kind: Literal["function", "custom"]) -> None:
        self.id = ""
        self.name = ""
        self.kind = kind
        self.signature: str | None = None
        self.arguments: list[str] = []

    def add(self, delta: ToolDelta) -> None:
        self.id = self.id or delta.id or ""
        self.name = self.name or delta.name or ""
        self.signature = self.signature or delta.signature
        self.arguments.append(delta.arguments)

    def result(self) -> ToolCall:
        return ToolCall(
            id=self.id,
            name=self.name,
            arguments="".join(self.arguments),
            kind=self.kind,
            signature=self.signature,
        )


class _Thought:
    def __init__(self) -> None:
        self.text: list[str] = []
        self.signature: str | None = None
        self.redacted = False
        self.dialect: str | None = None
        self.id: str | None = None

    def add(self, delta: ReasoningDelta) -> None:
        self.text.append(delta.text)
        self.signature = delta.signature or self.signature
        self.redacted = self.redacted or delta.redacted
        self.dialect = delta.dialect or self.dialect
        self.id = delta.id or self.id

    def result(self) -> Reasoning:
        return Reasoning(
            text="".join(self.text),
            signature=self.signature,
            redacted=self.redacted,
            dialect=self.dialect,
            id=self.id,
        )


class _Choice:
    def __init__(self) -> None:
        self.texts: dict[str, list[str]] = {}
        self.thoughts: dict[int, _Thought] = {}
        self.calls: dict[int, _Call] = {}
        self.finish: FinishReason | None = None
        self.stop_sequence: str | None = None
        self.annotations: list[Mapping[str, object]] = []
        self.logprobs: list[Mapping[str, object]] = []
        self.images: list[ImagePart] = []

    def add(self, delta: ChatDelta) -> None:
        for name in ("text", "refusal"):
            piece = getattr(delta, name)
            if piece is not None:
                self.texts.setdefault(name, []).append(piece)
        if delta.reasoning is not None:
            self.thoughts.setdefault(delta.reasoning.index, _Thought()).add(delta.reasoning)
        if delta.tool is not None:
            self.calls.setdefault(delta.tool.index, _Call(delta.tool.kind)).add(delta.tool)
        self.finish = delta.finish or self.finish
        self.stop_sequence = delta.stop_sequence or self.stop_sequence
        self.annotations += delta.annotations
        self.logprobs += delta.logprobs
        self.images += delta.images

    def result(self, index: int) -> ChatChoice:
        texts = {name: "".join(pieces) for name, pieces in self.texts.items()}
        return ChatChoice(
            index=index,
            text=texts.get("text"),
            reasoning=tuple(self.thoughts[number].result() for number in sorted(self.thoughts)),
            refusal=texts.get("refusal"),
            tool_calls=tuple(self.calls[number].result() for number in sorted(self.calls)),
            finish=self.finish,
            stop_sequence=self.stop_sequence,
            annotations=tuple(self.annotations),
            logprobs=tuple(self.logprobs),
            images=tuple(self.images),
        )


class Folding:
    """A whole answer in the making; `result` may be asked at any time."""

    def __init__(self) -> None:
        self.choices: dict[int, _Choice] = {}
        self.usage: Usage | None = None
        self.billed: Usage | None = None
        self.id = self.model = ""
        self.created_s = 0
        self.extra: dict[str, object] = {}

    def add(self, delta: ChatDelta) -> None:
        """Take the next delta."""
        self.id = self.id or delta.id or ""
        self.model = self.model or delta.model or ""
        self.created_s = self.created_s or delta.created_s or 0
        self.usage = delta.usage or self.usage
        self.billed = delta.billed or self.billed
        self.extra.update(delta.extra or {})
        if _says_something(delta):
            self.choices.setdefault(delta.choice, _Choice()).add(delta)

    def result(self) -> ChatResponse:
        """Return what the deltas so far make up."""
        return ChatResponse(
            id=self.id,
            model=self.model,
            created_s=self.created_s,
            choices=tuple(self.choices[index].result(index) for index in sorted(self.choices)),
            usage=self.usage,
            billed=self.billed,
            extra=self.extra,
        )


def _says_something(delta: ChatDelta) -> bool:
    said = (delta.text, delta.reasoning, delta.refusal, delta.tool, delta.finish)
    return any(part is not None for part in said) or bool(
        delta.annotations or delta.logprobs or delta.images
    )
