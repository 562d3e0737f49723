"""Going on with a stream that broke: what its caller has been told, and what is still due.

All of it on the level of the caller's dialect. What was told is read from the bytes that went out,
and so is what another target says; what of that is new goes out as the first answer's own.
"""

import msgspec

from shared.attempts.spoken import READERS, Reader
from shared.chat.response import ChatDelta
from shared.chat.usage import Usage
from shared.providers.request import InferenceRequest

READ_AT_BYTES = 64 * 1024
"""What went out is kept as it is up to here, then read: reading costs as much as relaying."""

_BEGINNING = 16
"""Characters by which an answer told again is known; fewer are said twice for other reasons."""


class Differs(Exception):
    """The second telling is not the first one gone on with; nothing of it may be shown."""


class Telling(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller has been told by the time a stream broke.

    `deltas` are all of it, texts joined. `in_text`: it is one answer's text, and more text can
    follow where it stopped; anything else is never gone on with. `thought`: reasoning was shown.
    `finished`: also why it ended was told. `reader` has read all of it.
    """

    deltas: tuple[ChatDelta, ...]
    text: str
    in_text: bool
    thought: bool
    finished: bool
    reader: Reader


class Told:
    """Keeps what goes out to one caller, for the case that the stream breaks."""

    def __init__(self, endpoint: str) -> None:
        self._reader = READERS[endpoint]()
        self._garbled = False
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
            in_text=not self._garbled
            and all(map(_can_go_on, self._deltas))
            and self._reader.is_open(self._deltas),
            thought=any(delta.reasoning is not None for delta in self._deltas),
            finished=any(delta.finish is not None for delta in self._deltas)
            and not any(delta.choice for delta in self._deltas),
            reader=self._reader,
        )

    def _read(self) -> None:
        piece = b"".join(self._unread)
        self._unread.clear()
        self._unread_bytes = 0
        decoded = self._reader.feed(piece)
        self._garbled = self._garbled or decoded.error is not None
        for delta in decoded.deltas:
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
        self._reader = READERS[request.endpoint]()
        self._renderer = told.reader.onward(request, told.deltas)

    def take(self, piece: bytes) -> bytes:
        """Return what of the next bytes is new to the caller.

        Raises:
            Differs: it tells something else than what was told.
        """
        decoded = self._reader.feed(piece)
        if decoded.error is not None:
            raise Differs
        return self._renderer.render([self._new(delta) for delta in decoded.deltas])

    def closing(self, last: bytes, usage: Usage | None, cost_usd: str | None) -> bytes:
        """Return what comes after the last event; `last` is what the second telling ends with.

        Raises:
            Differs: it was shorter than what had been told.
        """
        out = self.take(last)
        if self._due:
            raise Differs
        return out + self._renderer.closing(usage, cost_usd)

    def _new(self, delta: ChatDelta) -> ChatDelta:
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
