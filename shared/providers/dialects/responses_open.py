"""An item of a response on its way: the events that open it, fill it and close it."""

import abc
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from typing_extensions import override

from shared.chat.message import Reasoning, ToolCall
from shared.chat.response import ReasoningDelta, ToolDelta
from shared.providers.dialects.responses_render import (
    Item,
    Names,
    annotation,
    call_item,
    message_item,
    reasoning_item,
    refusal_part,
    text_part,
)


class Events:
    """Writes events, numbered from 0 or from where another left off."""

    def __init__(self, number: int = 0) -> None:
        self._number = number

    def event(self, name: str, **fields: object) -> bytes:
        """Return the next event."""
        body = {"type": name, "sequence_number": self._number, **fields}
        self._number += 1
        return b"event: %b\ndata: %b\n\n" % (name.encode(), msgspec.json.encode(body))


class OpenItem(abc.ABC):
    """An item on its way; `shown` is what it is by now."""

    def __init__(self, events: Events, item_id: str, index: int) -> None:
        self.closed = False
        self.shown: Item = {}
        self._events = events
        self._id = item_id
        self._index = index

    def open(self) -> bytes:
        """Return the event that opens it."""
        return self._events.event(
            "response.output_item.added", output_index=self._index, item=self.shown
        )

    def close(self, status: str = "completed") -> bytes:
        """Return the events that end it; nothing when it has ended."""
        if self.closed:
            return b""
        self.closed = True
        out = self._ending(status)
        return out + self._events.event(
            "response.output_item.done", output_index=self._index, item=self.shown
        )

    @abc.abstractmethod
    def _ending(self, status: str) -> bytes:
        """Return the events before the last one, and bring `shown` to its end."""

    def _event(self, name: str, **fields: object) -> bytes:
        return self._events.event(name, item_id=self._id, output_index=self._index, **fields)


class EndedItem(OpenItem):
    """One that has ended already."""

    def __init__(self, events: Events, index: int, shown: Item) -> None:
        super().__init__(events, "", index)
        self.closed = True
        self.shown = dict(shown)

    @override
    def _ending(self, status: str) -> bytes:
        return b""


class OpenMessage(OpenItem):
    """Words and refusals, a part of the content for each."""

    def __init__(self, events: Events, item_id: str, index: int) -> None:
        super().__init__(events, item_id, index)
        self.shown = message_item(self._id, [], "in_progress")
        self._parts: list[Item] = []
        self._kind = ""
        self._pieces: list[str] = []
        self._logprobs: list[Mapping[str, Any]] = []
        self._annotations: list[Mapping[str, Any]] = []
        self._begun: Item = {}

    def resume(self, begun: Item, text: str | None) -> None:
        """Go on with one that another has begun; None where its part has not."""
        self._begun = begun
        if text is not None:
            self._kind, self._pieces = "output_text", [text]

    def say(self, text: str, logprobs: Iterable[Mapping[str, Any]] = ()) -> bytes:
        """Return the events of more words; none at all still make a part."""
        out = self._part("output_text")
        if not text:
            return out
        self._pieces.append(text)
        tokens = list(logprobs)
        self._logprobs += tokens
        return out + self._event(
            "response.output_text.delta",
            content_index=len(self._parts),
            delta=text,
            logprobs=tokens,
        )

    def refuse(self, text: str) -> bytes:
        """Return the events of more words of refusal."""
        out = self._part("refusal")
        self._pieces.append(text)
        return out + self._event(
            "response.refusal.delta", content_index=len(self._parts), delta=text
        )

    def annotate(self, one: Mapping[str, Any]) -> bytes:
        """Return the events of an annotation to the words."""
        out = self._part("output_text")
        number = len(self._annotations)
        self._annotations.append(annotation(one))
        return out + self._event(
            "response.output_text.annotation.added",
            content_index=len(self._parts),
            annotation_index=number,
            annotation=annotation(one),
        )

    def _part(self, kind: str) -> bytes:
        """Return the events that open a part of that kind, if it is not the one that is open."""
        if kind == self._kind:
            return b""
        out = self._part_done()
        self._kind = kind
        empty = text_part("") if kind == "output_text" else refusal_part("")
        return out + self._event(
            "response.content_part.added", content_index=len(self._parts), part=empty
        )

    def _part_done(self) -> bytes:
        if not self._kind:
            return b""
        place, text = len(self._parts), "".join(self._pieces)
        if self._kind == "output_text":
            part = text_part(text, self._annotations, self._logprobs)
            out = self._event(
                "response.output_text.done",
                content_index=place,
                text=text,
                logprobs=self._logprobs,
            )
        else:
            part = refusal_part(text)
            out = self._event("response.refusal.done", content_index=place, refusal=text)
        out += self._event("response.content_part.done", content_index=place, part=part)
        self._parts.append(part)
        self._kind, self._pieces, self._logprobs, self._annotations = "", [], [], []
        return out

    @override
    def _ending(self, status: str) -> bytes:
        out = self._part_done()
        self.shown = {**self._begun, **message_item(self._id, self._parts, status)}
        return out


class OpenThought(OpenItem):
    """A piece of reasoning, shown as the one part of its summary."""

    def __init__(self, events: Events, names: Names, index: int) -> None:
        super().__init__(events, names.item("rs", index), index)
        self.shown = reasoning_item(self._id, Reasoning())
        self._pieces: list[str] = []
        self._last = ReasoningDelta()

    def add(self, delta: ReasoningDelta) -> bytes:
        """Return the events of more of it; a proof is shown at the end."""
        last = self._last
        self._last = ReasoningDelta(
            signature=delta.signature or last.signature,
            redacted=delta.redacted or last.redacted,
            dialect=delta.dialect or last.dialect,
        )
        if not delta.text:
            return b""
        out = b""
        if not self._pieces:
            out = self._event(
                "response.reasoning_summary_part.added",
                summary_index=0,
                part={"type": "summary_text", "text": ""},
            )
        self._pieces.append(delta.text)
        return out + self._event(
            "response.reasoning_summary_text.delta", summary_index=0, delta=delta.text
        )

    @override
    def _ending(self, status: str) -> bytes:
        text, last = "".join(self._pieces), self._last
        self.shown = reasoning_item(
            self._id,
            Reasoning(
                text=text,
                signature=last.signature,
                redacted=last.redacted,
                dialect=last.dialect,
            ),
        )
        if not text:
            return b""
        return self._event(
            "response.reasoning_summary_text.done", summary_index=0, text=text
        ) + self._event(
            "response.reasoning_summary_part.done",
            summary_index=0,
            part={"type": "summary_text", "text": text},
        )


class OpenCall(OpenItem):
    """A tool call; its arguments are one JSON text, or free text."""

    def __init__(self, events: Events, names: Names, index: int, first: ToolDelta) -> None:
        self._names = names
        self._call = ToolCall(
            id=first.id or "", name=first.name or "", arguments="", kind=first.kind
        )
        shown = call_item(names, index, self._call, "in_progress")
        super().__init__(events, shown["id"], index)
        self.shown = shown
        self._pieces: list[str] = []
        self._signature: str | None = None
        custom = first.kind == "custom"
        self._word = "input" if custom else "arguments"
        self._name = f"response.{'custom_tool_call_input' if custom else 'function_call_arguments'}"

    def add(self, delta: ToolDelta) -> bytes:
        """Return the events of more of its arguments."""
        self._signature = delta.signature or self._signature
        if not delta.arguments:
            return b""
        self._pieces.append(delta.arguments)
        return self._event(f"{self._name}.delta", delta=delta.arguments)

    @override
    def _ending(self, status: str) -> bytes:
        text = "".join(self._pieces)
        call = msgspec.structs.replace(self._call, arguments=text, signature=self._signature)
        self.shown = call_item(self._names, self._index, call, status)
        return self._event(f"{self._name}.done", **{self._word: text})
