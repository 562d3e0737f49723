"""The events of OpenAI's Responses, read: as deltas, and as the point that a caller has come to.

Only what one message of text, thoughts and calls are made of has words here. Whatever else an
answer holds belongs to choice 1, which no answer of this dialect has: nobody can go on with it.
"""

from collections.abc import Mapping
from typing import Literal

import msgspec
from typing_extensions import override

from shared.chat.response import ChatDelta, FinishReason, ReasoningDelta, ToolDelta
from shared.providers.decoding import PartDecoder, malformed
from shared.providers.dialects.openai_served import signature_in
from shared.providers.dialects.openai_stream import UNREADABLE
from shared.providers.dialects.responses_render import INCOMPLETE, Item
from shared.providers.dialects.sse import SseEvent, SseParser

Kind = Literal["function", "custom"]

_FINISHES = {word: finish for finish, word in INCOMPLETE.items()}
_CALLS: Mapping[str, Kind] = {"function_call": "function", "custom_tool_call": "custom"}
_OTHER = ChatDelta(choice=1)
_ARGUMENTS = frozenset({
    "response.function_call_arguments.delta", "response.custom_tool_call_input.delta",
})  # fmt: skip
_ARGUMENTS_DONE = frozenset({
    "response.function_call_arguments.done", "response.custom_tool_call_input.done",
})  # fmt: skip
_THOUGHTS = frozenset({"response.reasoning_summary_text.delta", "response.reasoning_text.delta"})
_SAID = frozenset({"output_text", "refusal"})


class Event(msgspec.Struct, kw_only=True):
    """One event; what a kind of event does not have is empty."""

    type: str | None = None
    sequence_number: int | None = None
    response: Item | None = None
    item: Item | None = None
    part: Item | None = None
    annotation: object = None
    output_index: int | None = None
    content_index: int | None = None
    delta: object = None
    text: object = None
    arguments: object = None
    input: object = None
    logprobs: list[Item] | None = None

    @property
    def place(self) -> int:
        """The place of its item."""
        return self.output_index or 0


_decode = msgspec.json.Decoder(Event).decode


class OpenText(msgspec.Struct, kw_only=True):
    """The message that is being said: as it began, its place, and whether its one part has begun.

    `pieces` are its words so far.
    """

    item: Item
    index: int
    pieces: list[str]
    begun: bool = False


class Standing(msgspec.Struct, kw_only=True):
    """How far a response has been told.

    `number` is that of the next event, `items` are those that have ended. `whole`: all that was
    told is in here, so that somebody else can tell the rest.
    """

    number: int = 0
    body: Item = {}
    items: tuple[Item, ...] = ()
    text: OpenText | None = None
    whole: bool = True


class ResponsesDecoder(PartDecoder[SseEvent]):
    """Turns the bytes of one stream into deltas; `standing` is where they have led."""

    def __init__(self) -> None:
        super().__init__(SseParser())
        self.standing = Standing()
        self._begun: set[int] = set()
        """The items that have begun and not ended, by place."""
        self._thoughts: set[int] = set()
        """The items that are thoughts, by place."""
        self._pieces: list[str] = []
        """The words of the message."""
        self._messages = 0
        self._refused = False
        self._calls: dict[int, bool] = {}
        """The calls by place, and whether their arguments have been told."""

    @override
    def _read(self, part: SseEvent, deltas: list[ChatDelta]) -> bool:
        if part.data.startswith(b"[DONE]"):
            return True
        try:
            event = _decode(part.data)
        except UNREADABLE as error:
            raise malformed("The provider's stream holds an event that is none.") from error
        if event.sequence_number is not None:
            self.standing.number = max(self.standing.number, event.sequence_number + 1)
        deltas += self._deltas(event.type or part.name.decode("utf-8", "replace"), event)
        return False

    def _deltas(self, kind: str, event: Event) -> list[ChatDelta]:
        match kind:
            case "response.created" | "response.in_progress" | "response.queued":
                return self._headed(event.response or {})
            case "response.output_item.added":
                return self._item_begun(event.item or {}, event.place)
            case "response.output_item.done":
                return self._item_ended(event.item or {}, event.place)
            case "response.content_part.added":
                return self._part_begun(event.part or {}, event)
            case "response.content_part.done" if event.place not in self._thoughts:
                return self._part_ended(event.part or {})
            case "response.completed" | "response.incomplete":
                response = event.response or {}
                return [*self._untold(response), ChatDelta(finish=_finish(kind, response))]
            case _:
                return self._said(kind, event)

    def _said(self, kind: str, event: Event) -> list[ChatDelta]:
        words = event.delta if isinstance(event.delta, str) else ""
        match kind:
            case "response.output_text.delta":
                return self._text(words, event)
            case "response.output_text.done":
                return self._part_ended({"type": "output_text", "text": event.text})
            case "response.refusal.delta":
                self._refused = True
                return [ChatDelta(refusal=words)]
            case "response.refusal.done":
                return self._part_ended({"type": "refusal"})
            case "response.output_text.annotation.added":
                note = event.annotation
                return [ChatDelta(annotations=(note,)) if isinstance(note, dict) else _OTHER]
            case _ if kind in _THOUGHTS:
                return [ChatDelta(reasoning=ReasoningDelta(index=event.place, text=words))]
            case _ if kind in _ARGUMENTS:
                self._calls[event.place] = True
                return [ChatDelta(tool=ToolDelta(index=event.place, arguments=words))]
            case _ if kind in _ARGUMENTS_DONE and self._calls.get(event.place) is False:
                whole = event.arguments or event.input
                self._calls[event.place] = True
                words = whole if isinstance(whole, str) else ""
                return [ChatDelta(tool=ToolDelta(index=event.place, arguments=words))]
            case _:
                return []

    def _headed(self, response: Item) -> list[ChatDelta]:
        if self.standing.body or not response:
            return []
        self.standing.body = response
        created = response.get("created_at")
        return [
            ChatDelta(
                id=_word(response, "id"),
                model=_word(response, "model"),
                created_s=int(created) if isinstance(created, int | float) else None,
            )
        ]

    def _item_begun(self, item: Item, place: int) -> list[ChatDelta]:
        self._begun.add(place)
        kind = _word(item, "type")
        if kind == "message" and not item.get("content"):
            self._messages += 1
            # A second one's words are no more of the first one's, nor are thoughts aloud.
            if self._messages > 1 or item.get("phase") == "commentary":
                return [_OTHER]
            self.standing.text = OpenText(item=item, index=place, pieces=self._pieces)
            return []
        if kind == "reasoning":
            self._thoughts.add(place)
            return [ChatDelta(reasoning=ReasoningDelta(index=place))]
        if kind in _CALLS:
            return self._call_begun(item, place, _CALLS[kind])
        return [_OTHER]

    def _call_begun(self, item: Item, place: int, kind: Kind) -> list[ChatDelta]:
        self._calls[place] = False
        call_id, name = _word(item, "call_id"), _word(item, "name")
        return [ChatDelta(tool=ToolDelta(index=place, id=call_id, name=name, kind=kind))]

    def _part_begun(self, part: Item, event: Event) -> list[ChatDelta]:
        text = self.standing.text
        match _word(part, "type"):
            case _ if event.place in self._thoughts:
                return []
            case "output_text" if (
                text is not None
                and (text.index, text.begun) == (event.place, False)
                and not (event.content_index or _word(part, "text"))
            ):
                text.begun = True
                return []
            case "refusal":
                return [ChatDelta(refusal="")]
            case _:
                return [_OTHER]

    def _text(self, words: str, event: Event) -> list[ChatDelta]:
        """Return a piece of text, where it stands in the one part that has begun."""
        text = self.standing.text
        if text is None or not text.begun or event.content_index or text.index != event.place:
            return [_OTHER]
        text.pieces.append(words)
        return [ChatDelta(text=words, logprobs=tuple(event.logprobs or ()))]

    def _part_ended(self, part: Item) -> list[ChatDelta]:
        if _word(part, "type") not in _SAID:
            return []
        self._no_more_text()
        return self._untold({"content": [part]})

    def _untold(self, held: Item) -> list[ChatDelta]:
        """Return what is no piece of text: whatever a message, or all of them, say beyond those.

        White space at the end counts for nothing, for some leave it out here.
        """
        parts: list[Item] = []
        output = held.get("output")
        for item in output if isinstance(output, list) else [held]:
            content = item.get("content") if isinstance(item, dict) else None
            if isinstance(content, list):
                parts += [part for part in content if isinstance(part, dict)]
        said = "".join([_word(part, "text") for part in parts if part.get("type") == "output_text"])
        refused = any(part.get("type") == "refusal" for part in parts)
        more = not "".join(self._pieces).startswith(said.rstrip())
        return [_OTHER] if more or (refused and not self._refused) else []

    def _item_ended(self, item: Item, place: int) -> list[ChatDelta]:
        standing, kind = self.standing, _CALLS.get(_word(item, "type"))
        self._begun.discard(place)
        standing.items = (*standing.items, item)
        if standing.text is not None and standing.text.index == place:
            self._no_more_text()
        if kind is None:
            return self._untold(item) if item.get("type") == "message" else []
        deltas = [] if place in self._calls else self._call_begun(item, place, kind)
        # Some tell a call's arguments only here, and ours a thought's proof.
        arguments = _word(item, "input" if kind == "custom" else "arguments")
        more = ToolDelta(
            index=place,
            arguments="" if self._calls[place] else arguments,
            signature=signature_in(item.get("extra_content")),
        )
        return [*deltas, ChatDelta(tool=more)]

    def _no_more_text(self) -> None:
        self.standing.text = None
        self.standing.whole = False

    @property
    def open(self) -> bool:
        """Whether text can follow: in the one message that is open, after items that have ended."""
        standing = self.standing
        text = standing.text
        if not standing.body or not standing.whole:
            return False
        if text is None:
            return not self._begun
        return self._begun == {text.index} and text.index == len(standing.items)


def _finish(kind: str, response: Item) -> FinishReason:
    if kind == "response.completed":
        return FinishReason.STOP
    match response.get("incomplete_details"):
        case {"reason": str(word)}:
            return _FINISHES.get(word, FinishReason.LENGTH)
        case _:
            return FinishReason.LENGTH


def _word(fields: Item, name: str) -> str:
    found = fields.get(name)
    return found if isinstance(found, str) else ""
