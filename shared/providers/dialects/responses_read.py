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

_FINISHES = {word: finish for finish, word in INCOMPLETE.items()}
Kind = Literal["function", "custom"]

_CALLS: Mapping[str, Kind] = {"function_call": "function", "custom_tool_call": "custom"}
_OTHER = ChatDelta(choice=1)
_DELTAS = frozenset({
    "response.function_call_arguments.delta", "response.custom_tool_call_input.delta",
})  # fmt: skip
_THOUGHTS = frozenset({"response.reasoning_summary_text.delta", "response.reasoning_text.delta"})
_SAID = frozenset({"output_text", "refusal"})


class Event(msgspec.Struct, kw_only=True):
    """One event; what a kind of event does not have is empty."""

    type: str = ""
    sequence_number: int = 0
    response: Item = {}
    item: Item = {}
    part: Item = {}
    annotation: Item = {}
    output_index: int = 0
    content_index: int = 0
    delta: object = None
    logprobs: list[Item] | None = None


_decode = msgspec.json.Decoder(Event).decode


class OpenText(msgspec.Struct, kw_only=True):
    """The message that is being said: its id and place, and whether its one part has begun."""

    item_id: str
    index: int
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
        self._messages = 0
        self._unsaid: set[int] = set()
        """The calls whose arguments have not been told, by place."""

    @override
    def _read(self, part: SseEvent, deltas: list[ChatDelta]) -> bool:
        if part.data.startswith(b"[DONE]"):
            return True
        try:
            event = _decode(part.data)
        except UNREADABLE as error:
            raise malformed("The provider's stream holds an event that is none.") from error
        self.standing.number = max(self.standing.number, event.sequence_number + 1)
        deltas += self._deltas(event)
        return False

    def _deltas(self, event: Event) -> list[ChatDelta]:
        match event.type:
            case "response.created" | "response.in_progress" | "response.queued":
                return self._headed(event.response)
            case "response.output_item.added":
                return self._item_begun(event)
            case "response.output_item.done":
                return self._item_ended(event)
            case "response.content_part.added":
                return self._part_begun(event)
            case "response.content_part.done":
                if _word(event.part, "type") in _SAID:
                    self._no_more_text()
                return []
            case "response.completed" | "response.incomplete":
                return [ChatDelta(finish=_finish(event.response))]
            case _:
                return self._said(event)

    def _said(self, event: Event) -> list[ChatDelta]:
        words = event.delta if isinstance(event.delta, str) else ""
        match event.type:
            case "response.output_text.delta":
                return [ChatDelta(text=words, logprobs=tuple(event.logprobs or ()))]
            case "response.refusal.delta":
                return [ChatDelta(refusal=words)]
            case "response.output_text.annotation.added":
                return [ChatDelta(annotations=(event.annotation,))]
            case kind if kind in _THOUGHTS:
                return [ChatDelta(reasoning=ReasoningDelta(index=event.output_index, text=words))]
            case kind if kind in _DELTAS:
                self._unsaid.discard(event.output_index)
                return [ChatDelta(tool=ToolDelta(index=event.output_index, arguments=words))]
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

    def _item_begun(self, event: Event) -> list[ChatDelta]:
        item, place = event.item, event.output_index
        self._begun.add(place)
        kind = _word(item, "type")
        if kind == "message":
            self._messages += 1
            if self._messages > 1:  # a second one's words are no more of the first one's
                return [_OTHER]
            self.standing.text = OpenText(item_id=_word(item, "id"), index=place)
            return []
        if kind == "reasoning":
            return [ChatDelta(reasoning=ReasoningDelta(index=place))]
        if kind in _CALLS:
            self._unsaid.add(place)
            return [ChatDelta(tool=_call(item, place, _CALLS[kind]))]
        return [_OTHER]

    def _part_begun(self, event: Event) -> list[ChatDelta]:
        kind, text = _word(event.part, "type"), self.standing.text
        if kind == "reasoning_text":
            return []
        if kind == "output_text" and event.content_index == 0 and text is not None:
            text.begun = True
            return []
        return [ChatDelta(refusal="")] if kind == "refusal" else [_OTHER]

    def _item_ended(self, event: Event) -> list[ChatDelta]:
        standing, item, place = self.standing, event.item, event.output_index
        self._begun.discard(place)
        standing.items = (*standing.items, item)
        if standing.text is not None and standing.text.index == place:
            self._no_more_text()
        kind = _CALLS.get(_word(item, "type"))
        if kind is None:
            return []
        # Some tell a call's arguments only here, and ours a thought's proof.
        arguments = _arguments(item, kind) if place in self._unsaid else ""
        signature = signature_in(item.get("extra_content"))
        return [ChatDelta(tool=ToolDelta(index=place, arguments=arguments, signature=signature))]

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
        here = set() if text is None else {text.index}
        return self._begun == here and (text is None or text.index == len(standing.items))


def _call(item: Item, place: int, kind: Kind) -> ToolDelta:
    call_id, name = _word(item, "call_id"), _word(item, "name")
    return ToolDelta(index=place, id=call_id, name=name, kind=kind)


def _arguments(item: Item, kind: Kind) -> str:
    return _word(item, "input" if kind == "custom" else "arguments")


def _finish(response: Item) -> FinishReason:
    match response.get("incomplete_details"):
        case {"reason": str(word)}:
            return _FINISHES.get(word, FinishReason.STOP)
        case _:
            return FinishReason.STOP


def _word(fields: Item, name: str) -> str:
    found = fields.get(name)
    return found if isinstance(found, str) else ""
