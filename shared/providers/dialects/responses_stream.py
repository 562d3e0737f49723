"""Canonical deltas as the events of OpenAI's Responses, by the demands of its SDK's helper.

An item is opened by its first delta and has one index for good. Thoughts and words close when
something else begins; calls stay open to the end, because their pieces may come mixed.
"""

from collections.abc import Iterable

import msgspec

from shared.chat.request import ChatRequest
from shared.chat.response import ChatDelta, FinishReason, ReasoningDelta, ToolDelta
from shared.chat.usage import Usage
from shared.providers.dialects.responses_open import (
    EndedItem,
    Events,
    OpenCall,
    OpenItem,
    OpenMessage,
    OpenThought,
)
from shared.providers.dialects.responses_read import Standing
from shared.providers.dialects.responses_render import INCOMPLETE, Item, Names, complete, envelope


class ResponsesRenderer:
    """Turns the deltas of one stream into events, numbered from 0 without a gap."""

    def __init__(self, chat: ChatRequest, names: Names) -> None:
        self._chat = chat
        self._names = names
        self._events = Events()
        self._body: Item | None = None
        self._items: list[OpenItem] = []
        self._message: OpenMessage | None = None
        self._thought: OpenThought | None = None
        self._thought_index = -1
        self._calls: dict[int, OpenCall] = {}
        self._finish: FinishReason | None = None
        self._spoke = False
        self._extra: dict[str, object] = {}
        self._model = ""
        self._created_s = 0

    @classmethod
    def after(cls, told: Standing) -> "ResponsesRenderer":
        """Return one that tells the rest of a response."""
        renderer = cls(ChatRequest(model="", messages=()), Names(str(told.body.get("id", ""))))
        events = renderer._events = Events(told.number)
        # When it was complete is not known before it is.
        renderer._body = {k: v for k, v in told.body.items() if k != "completed_at"}
        renderer._items = [EndedItem(events, index, item) for index, item in enumerate(told.items)]
        begun = told.text
        if begun is not None:
            message = OpenMessage(events, str(begun.item.get("id", "")), begun.index)
            message.resume(begun.item, "".join(begun.pieces) if begun.begun else None)
            renderer._items.append(message)
            renderer._message = message
        return renderer

    def render(self, deltas: Iterable[ChatDelta]) -> bytes:
        """Return the events of these deltas; usage alone makes none."""
        return b"".join([self._delta(delta) for delta in deltas if delta.choice == 0])

    def closing(self, usage: Usage | None, cost_usd: str | None) -> bytes:
        """Return the last event: the whole response, with what it cost beside its usage."""
        out = self._opened() + self._closed_items()
        body = dict(self._body or {})
        complete(body, [item.shown for item in self._items], self._finish, usage)
        # A number with all its digits: the text is a plain decimal.
        told: dict[str, object] = {"cost_usd": msgspec.Raw((cost_usd or "null").encode())}
        if self._extra:
            told["extra"] = self._extra
        body["sluiceway"] = told
        return out + self._events.event(f"response.{body['status']}", response=body)

    def _delta(self, delta: ChatDelta) -> bytes:
        self._model = self._model or delta.model or ""
        self._created_s = self._created_s or delta.created_s or 0
        self._extra.update(delta.extra or {})
        out = b""
        if delta.reasoning is not None:
            out += self._opened() + self._think(delta.reasoning)
        if delta.text or delta.annotations:
            out += self._opened() + self._say(delta)
        self._spoke = self._spoke or delta.text is not None
        if delta.refusal:
            out += self._opened() + self._refuse(delta.refusal)
        if delta.tool is not None:
            out += self._opened() + self._call(delta.tool)
        if delta.finish is not None:
            self._finish = self._finish or delta.finish
            out += self._opened() + self._finished()
        return out

    def _opened(self) -> bytes:
        if self._body is not None:
            return b""
        self._body = envelope(self._chat, self._names, self._model, self._created_s)
        created = self._events.event("response.created", response=self._body)
        return created + self._events.event("response.in_progress", response=self._body)

    def _think(self, delta: ReasoningDelta) -> bytes:
        out = b""
        thought = self._thought
        if thought is None or thought.closed or delta.index != self._thought_index:
            if not delta.text and delta.signature is None and delta.dialect is None:
                return b""
            out = self._quiet()
            thought = self._thought = OpenThought(self._events, self._names, len(self._items))
            self._thought_index = delta.index
            self._items.append(thought)
            out += thought.open()
        return out + thought.add(delta)

    def _say(self, delta: ChatDelta) -> bytes:
        out, message = self._speaking()
        if delta.text:
            out += message.say(delta.text, delta.logprobs)
        for one in delta.annotations:
            out += message.annotate(one)
        return out

    def _refuse(self, text: str) -> bytes:
        out, message = self._speaking()
        return out + message.refuse(text)

    def _speaking(self) -> tuple[bytes, OpenMessage]:
        """Return the open message, and the events that open it if none was."""
        message = self._message
        if message is not None and not message.closed:
            return b"", message
        out = self._quiet()
        index = len(self._items)
        message = OpenMessage(self._events, self._names.item("msg", index), index)
        self._message = message
        self._items.append(message)
        return out + message.open(), message

    def _call(self, delta: ToolDelta) -> bytes:
        out = b""
        call = self._calls.get(delta.index)
        if call is None:
            out = self._quiet()
            call = OpenCall(self._events, self._names, len(self._items), delta)
            self._calls[delta.index] = call
            self._items.append(call)
            out += call.open()
        return out + call.add(delta)

    def _quiet(self) -> bytes:
        """Return the events that close what is being thought or said."""
        open_items = (self._thought, self._message)
        return b"".join([item.close() for item in open_items if item is not None])

    def _finished(self) -> bytes:
        """Return what ends the items; an answer without any said nothing, and says so."""
        out = b""
        if not self._items and self._spoke:
            out, message = self._speaking()
            out += message.say("")
        return out + self._closed_items()

    def _closed_items(self) -> bytes:
        cut = self._finish in INCOMPLETE
        return b"".join(
            [
                item.close("incomplete" if cut and item is self._items[-1] else "completed")
                for item in self._items
            ]
        )
