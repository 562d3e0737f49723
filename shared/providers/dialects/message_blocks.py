"""The content blocks of one Anthropic stream: one open at a time, whatever order their pieces have.

Others may tell two tool calls at once, or speak between the pieces of a call. Then the first block
stays open until it is whole and the rest waits; nothing is lost and nothing is told twice.
"""

from collections.abc import Iterable, Mapping

import msgspec
from typing_extensions import override

from shared.chat.response import ReasoningDelta, ToolDelta
from shared.ids import IdMaker
from shared.providers.dialects.foreign_thoughts import packed
from shared.providers.dialects.openai_render import signed

_encode = msgspec.json.Encoder().encode

Fields = dict[str, object]


def event(name: str, fields: Fields) -> bytes:
    """Return one event: its name, and its data with the name as `type`."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), _encode({"type": name, **fields}))


def citation(annotation: Mapping[str, object]) -> Fields | None:
    """Return OpenAI's annotation as a citation of Anthropic's; None for what is no URL."""
    match annotation:
        case {"type": "url_citation", "url_citation": {"url": str(url), **rest}}:
            title = rest.get("title")
            return {
                "type": "web_search_result_location",
                "url": url,
                "title": title if isinstance(title, str) else None,
                "cited_text": "",
                "encrypted_index": "",
            }
        case _:
            return None


class _Block:
    """A block, and the pieces of it that have not been told yet."""

    def __init__(self, opening: Fields) -> None:
        self.opening = opening
        self.opened = False
        self.pieces: list[Fields] = []

    @property
    def whole(self) -> bool:
        """Whether it may be closed when another begins."""
        return True

    def rest(self) -> list[Fields]:
        """Return what is due before it closes."""
        return []


class _Text(_Block):
    def __init__(self) -> None:
        super().__init__({"type": "text", "text": ""})


class _Thought(_Block):
    def __init__(self, delta: ReasoningDelta) -> None:
        opening: Fields = {"type": "thinking", "thinking": "", "signature": ""}
        if delta.redacted:
            proof = packed(delta.dialect, delta.signature, delta.id)
            opening = {"type": "redacted_thinking", "data": proof}
        super().__init__(opening)
        self.index = delta.index
        self.redacted = delta.redacted
        self._dialect = delta.dialect
        self._id = delta.id
        self._signed = delta.redacted

    def add(self, delta: ReasoningDelta) -> None:
        self._dialect = self._dialect or delta.dialect
        self._id = self._id or delta.id
        if delta.redacted:
            return
        if delta.text:
            self.pieces.append({"type": "thinking_delta", "thinking": delta.text})
        if delta.signature is not None:
            self._sign(delta.signature)

    @override
    def rest(self) -> list[Fields]:
        if self._id is not None and not self._signed:
            self._sign(None)
        rest, self.pieces = self.pieces, []
        return rest

    def _sign(self, signature: str | None) -> None:
        self._signed = True
        proof = packed(self._dialect, signature, self._id)
        self.pieces.append({"type": "signature_delta", "signature": proof})


class _Call(_Block):
    def __init__(self, delta: ToolDelta, ids: IdMaker) -> None:
        opening: Fields = {
            "type": "tool_use",
            "id": delta.id or ids("toolu"),
            "name": delta.name or "",
            "input": {},
        }
        if delta.signature is not None:
            opening["extra_content"] = signed(delta.signature)
        super().__init__(opening)
        self.index = delta.index
        self._is_text = delta.kind == "custom"
        self._arguments: list[str] = []

    def add(self, arguments: str) -> None:
        if not arguments:
            return
        self._arguments.append(arguments)
        if not self._is_text:
            self.pieces.append(_json_delta(arguments))

    @property
    @override
    def whole(self) -> bool:
        """Nothing can follow a whole JSON object."""
        if self._is_text:
            return False
        try:
            return isinstance(msgspec.json.decode("".join(self._arguments)), dict)
        except (msgspec.DecodeError, RecursionError):
            return False

    @override
    def rest(self) -> list[Fields]:
        if self._is_text:
            return [_json_delta(_encode({"input": "".join(self._arguments)}).decode())]
        return [] if self._arguments else [_json_delta("{}")]


class Blocks:
    """Takes the pieces of an answer and returns the events that are due."""

    def __init__(self, ids: IdMaker) -> None:
        self.called = False
        self._ids = ids
        self._index = 0
        self._waiting: list[_Block] = []
        self._closed_calls: set[int] = set()

    def say(self, text: str) -> bytes:
        """Take words of the answer."""
        piece: Fields = {"type": "text_delta", "text": text}
        return self._tell(self._text(), piece)

    def cite(self, annotations: Iterable[Mapping[str, object]]) -> bytes:
        """Take sources of the words; those that are no URLs have no form here."""
        cited = [one for one in map(citation, annotations) if one is not None]
        pieces: list[Fields] = [{"type": "citations_delta", "citation": one} for one in cited]
        return self._tell(self._text(), *pieces) if pieces else b""

    def think(self, delta: ReasoningDelta) -> bytes:
        """Take a piece of thought."""
        last = self._waiting[-1] if self._waiting else None
        if not isinstance(last, _Thought) or last.index != delta.index:
            if not (delta.text or delta.signature or delta.redacted):
                return b""
            last = _Thought(delta)
            self._waiting.append(last)
        last.add(delta)
        return self._advance()

    def call(self, delta: ToolDelta) -> bytes:
        """Take a piece of a tool call; blank ends of a whole one are passed over."""
        if delta.index in self._closed_calls:
            return b""
        found = self._call(delta.index)
        if found is None:
            self.called = True
            found = _Call(delta, self._ids)
            self._waiting.append(found)
        found.add(delta.arguments)
        return self._advance()

    def end(self) -> bytes:
        """Tell all that waits and close; more may come after it."""
        return self._advance(over=True)

    def _text(self) -> _Block:
        if not self._waiting or not isinstance(self._waiting[-1], _Text):
            self._waiting.append(_Text())
        return self._waiting[-1]

    def _call(self, index: int) -> _Call | None:
        for block in self._waiting:
            if isinstance(block, _Call) and block.index == index:
                return block
        return None

    def _tell(self, block: _Block, *pieces: Fields) -> bytes:
        if block.opened and len(self._waiting) == 1:
            return b"".join([self._delta(piece) for piece in pieces])
        block.pieces += pieces
        return self._advance()

    def _advance(self, *, over: bool = False) -> bytes:
        """Return what can be told of the waiting blocks: the first stays open until it is whole."""
        out: list[bytes] = []
        while self._waiting:
            first = self._waiting[0]
            if not first.opened:
                first.opened = True
                opening: Fields = {"index": self._index, "content_block": first.opening}
                out.append(event("content_block_start", opening))
            pieces, first.pieces = first.pieces, []
            out += [self._delta(piece) for piece in pieces]
            if not over and (len(self._waiting) == 1 or not first.whole):
                break
            out += [self._delta(piece) for piece in first.rest()]
            out.append(event("content_block_stop", {"index": self._index}))
            if isinstance(first, _Call):
                self._closed_calls.add(first.index)
            self._index += 1
            del self._waiting[0]
        return b"".join(out)

    def _delta(self, piece: Fields) -> bytes:
        return event("content_block_delta", {"index": self._index, "delta": piece})


def _json_delta(text: str) -> Fields:
    return {"type": "input_json_delta", "partial_json": text}
