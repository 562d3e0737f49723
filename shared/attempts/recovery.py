"""Going on with a stream that broke: what its caller has been told, and what is still due.

All of it on the level of the caller's dialect. What was told is read from the bytes that went out,
and so is what another target says; what of that is new goes out as the first answer's own.
"""

from collections.abc import Iterable, Mapping
from typing import Protocol

import msgspec

from shared.chat.response import ChatDelta
from shared.chat.usage import Usage
from shared.ids import new_id
from shared.providers.dialects.anthropic_render import MessagesRenderer
from shared.providers.dialects.anthropic_stream import AnthropicDecoder
from shared.providers.dialects.openai_chat import OpenAIDecoder
from shared.providers.dialects.openai_render import OpenAIRenderer
from shared.providers.dialects.sse import SseParser
from shared.providers.request import InferenceRequest
from shared.providers.translation import Asked, DeltaRenderer, StreamDecoder

READ_AT_BYTES = 64 * 1024
"""What went out is kept as it is up to here, then read: reading costs as much as relaying."""

_BEGINNING = 16
"""Characters by which an answer told again is known; fewer are said twice for other reasons."""

_CHAT = "/v1/chat/completions"
_MESSAGES = "/v1/messages"
RECOVERED = frozenset({_CHAT, _MESSAGES})
"""The paths whose streams can be gone on with; on others a cut one ends in an error event."""


class Differs(Exception):
    """The second telling is not the first one gone on with; nothing of it may be shown."""


class Telling(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller has been told by the time a stream broke.

    `deltas` are all of it, texts joined. `in_text`: it is one answer's text, and more text can
    follow where it stopped; anything else is never gone on with. `thought`: reasoning was shown.
    `finished`: also why it ended was told.
    """

    deltas: tuple[ChatDelta, ...]
    text: str
    in_text: bool
    thought: bool
    finished: bool


class _Reader(Protocol):
    """Reads what went out."""

    @property
    def open(self) -> bool:
        """Whether text can follow where it stopped."""

    def feed(self, piece: bytes) -> Iterable[ChatDelta]:
        """Take the next bytes."""


class _ChatReader:
    open = True

    def __init__(self) -> None:
        self._decoder: StreamDecoder = OpenAIDecoder()

    def feed(self, piece: bytes) -> Iterable[ChatDelta]:
        return self._decoder.feed(piece).deltas


class _MessagesReader:
    """Also knows whether the last block is one of text, or none has begun."""

    def __init__(self) -> None:
        self._decoder = AnthropicDecoder(Asked())
        self._events = SseParser()
        self.open = True

    def feed(self, piece: bytes) -> Iterable[ChatDelta]:
        for event in self._events.feed(piece):
            if event.name == b"content_block_start":
                self.open = b'"type":"text"' in event.data.replace(b" ", b"")
            elif event.name == b"content_block_stop":
                self.open = False
        return self._decoder.feed(piece).deltas


def _reader(endpoint: str) -> _Reader:
    return _MessagesReader() if endpoint == _MESSAGES else _ChatReader()


class Told:
    """Keeps what goes out to one caller, for the case that the stream breaks."""

    def __init__(self, endpoint: str) -> None:
        self._reader = _reader(endpoint)
        self._unread: list[bytes] = []
        self._unread_bytes = 0
        self._deltas: list[ChatDelta] = []
        self._run: list[str] = []
        """The text since the last delta that held something else."""
        self._text: list[str] = []

    def add(self, piece: bytes) -> None:
        """Take what has just gone out."""
        self._unread.append(piece)
        self._unread_bytes += len(piece)
        if self._unread_bytes >= READ_AT_BYTES:
            self._read()

    def so_far(self) -> Telling:
        """Return all that was told until now."""
        self._read()
        self._end_run()
        return Telling(
            deltas=tuple(self._deltas),
            text="".join(self._text),
            in_text=self._reader.open and all(map(_can_go_on, self._deltas)),
            thought=any(delta.reasoning is not None for delta in self._deltas),
            finished=any(delta.finish is not None for delta in self._deltas),
        )

    def _read(self) -> None:
        piece = b"".join(self._unread)
        self._unread.clear()
        self._unread_bytes = 0
        for delta in self._reader.feed(piece):
            if delta.text and delta == ChatDelta(text=delta.text):
                self._run.append(delta.text)
            else:
                self._end_run()
                self._deltas.append(delta)
                self._text.append(delta.text or "")

    def _end_run(self) -> None:
        if self._run:
            text = "".join(self._run)
            self._run.clear()
            self._deltas.append(ChatDelta(text=text))
            self._text.append(text)


def _can_go_on(delta: ChatDelta) -> bool:
    """Return whether it is text, reasoning or a head: a tool call, say, is never spliced."""
    others = (delta.tool, delta.refusal, delta.finish)
    listed = delta.annotations or delta.logprobs or delta.images
    return delta.choice == 0 and not listed and not any(part is not None for part in others)


class Splice:
    """Makes another target's stream the rest of the first one's.

    `said` is what of the told text that target was given to go on from, empty when it tells all of
    it again; then its answer must begin with what was told. A target that tells all of it again
    although it was given a beginning is found out, unless the text repeats itself.
    """

    def __init__(self, told: Telling, request: InferenceRequest, said: str) -> None:
        self._due = told.text[len(said) :]
        self._again = told.text if said and _is_telling(told.text) else ""
        self._held = ""
        """Text that may turn out to be all of the answer again."""
        self._reader = _reader(request.endpoint)
        self._renderer = _renderer(request)
        # Brings it to where the caller is: id, model and open blocks stay the first one's.
        self._renderer.render(told.deltas)

    def take(self, piece: bytes) -> bytes:
        """Return what of the next bytes is new to the caller.

        Raises:
            Differs: it tells something else than what was told.
        """
        return self._renderer.render(
            [new for delta in self._reader.feed(piece) if (new := self._new(delta)) is not None]
        )

    def closing(self, last: bytes, usage: Usage | None, cost_usd: str | None) -> bytes:
        """Return what comes after the last event; `last` is what the second telling ends with.

        Raises:
            Differs: it was shorter than what had been told.
        """
        out = self.take(last)
        if self._due:
            raise Differs
        return out + self._renderer.closing(usage, cost_usd)

    def _new(self, delta: ChatDelta) -> ChatDelta | None:
        if delta.choice:
            raise Differs
        # Thoughts are dropped: they are another mind's, and their place is before the text.
        more = delta.tool or delta.finish or delta.refusal
        text = self._settled(delta.text or "", over=bool(more))
        delta = msgspec.structs.replace(
            delta, text=self._rest_of(text), reasoning=None, logprobs=()
        )
        if self._due and more:
            raise Differs
        return delta

    def _settled(self, text: str, *, over: bool) -> str:
        """Return the text that is certain to be new, or the beginning as it was asked for."""
        if not self._again:
            return text
        held, self._held = self._held + text, ""
        if not over and len(held) < len(self._again) and self._again.startswith(held):
            self._held = held
            return ""
        if held.startswith(self._again):
            self._due = ""
            held = held[len(self._again) :]
        self._again = ""
        return held

    def _rest_of(self, text: str) -> str | None:
        if self._due:
            length = min(len(text), len(self._due))
            if text[:length] != self._due[:length]:
                raise Differs
            self._due = self._due[length:]
            text = text[length:]
        return text or None


def _is_telling(text: str) -> bool:
    """Return whether the same text a second time can only be the answer told again."""
    beginning = text[:_BEGINNING]
    return len(beginning) == _BEGINNING and text.find(beginning, 1) < 0


def _renderer(request: InferenceRequest) -> DeltaRenderer:
    if request.endpoint == _MESSAGES:
        return MessagesRenderer(new_id)
    return OpenAIRenderer(include_usage=request.include_usage)


_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_THINKING = ("thinking", "reasoning_effort", "reasoning")
"""With these a model thinks before it speaks; with a beginning of its answer it cannot."""


class _Turn(msgspec.Struct):
    role: str


_decode_turn = msgspec.json.Decoder(_Turn).decode


def prefilled(request: InferenceRequest, told: Telling, *, bare: bool) -> tuple[str, bytes] | None:
    """Return the text that a target is given to go on from, and the request's body with it.

    None where that is no use: a form is asked for or thoughts, or the caller's own question ends
    in the assistant's words. `bare`: white space may not stand at the end.
    """
    said = told.text.rstrip() if bare else told.text
    if not said.strip() or told.thought:
        return None
    fields = _decode(request.raw)
    if any(_is_set(fields, name) for name in (*_THINKING, "response_format", "output_config")):
        return None
    messages = _decode_list(fields["messages"])
    if _decode_turn(messages[-1]).role == "assistant":
        return None
    turn: Mapping[str, str] = {"role": "assistant", "content": said}
    body = {**fields, "messages": [*messages, turn]}
    return said, msgspec.json.encode(body)


def _is_set(fields: Mapping[str, msgspec.Raw], name: str) -> bool:
    return bytes(fields.get(name, b"null")) not in {b"null", b'{"type":"text"}'}
