"""Gemini's `generateContent` as a target of translation: its answers, its streams, its errors.

The Developer API and Vertex differ in whose proofs of thought they take.
"""

import msgspec
from typing_extensions import override

from shared.chat.response import ChatDelta, ChatResponse, fold
from shared.errors import UpstreamError
from shared.providers.decoding import PartDecoder, malformed
from shared.providers.dialects.gemini_errors import error_inside, error_of
from shared.providers.dialects.gemini_reading import Reading
from shared.providers.dialects.gemini_usage import tier_in
from shared.providers.dialects.gemini_wire import UNREADABLE, decode
from shared.providers.dialects.sse import SseEvent, SseParser
from shared.providers.head import refuse_stream
from shared.providers.translation import Asked, Decoded, TargetDialect

_FIELDS = (b"data", b"event", b"id", b"retry", b":")
EVENT_BYTES = 32 * 1024 * 1024
"""Images come whole in one event, some of them as 10 MB of base64."""

STRAY_BYTES = 65_536
"""What is kept of lines that belong to no event; errors are shorter."""


def parse_response(body: bytes, asked: Asked, *, vertex: bool = False) -> ChatResponse:
    """Return a whole answer.

    Raises:
        UpstreamError: MALFORMED when it is not one, or what an `error` inside says.
    """
    try:
        answer = decode(body)
    except UNREADABLE as error:
        raise malformed("The provider's answer is not the JSON of an answer.") from error
    reading = Reading(asked, vertex=vertex)
    deltas = [*reading.take(answer), *reading.close(whole=True)]
    whole = fold(deltas)
    if not whole.choices:
        raise malformed("The provider's answer has no `candidates`.")
    return whole


class GeminiDecoder(PartDecoder[SseEvent]):
    """Turns the bytes of one stream (`alt=sse`) into deltas; the end of the body ends it."""

    def __init__(self, asked: Asked, *, vertex: bool = False) -> None:
        self._cutter = _Parser()
        super().__init__(self._cutter)
        self._reading = Reading(asked, vertex=vertex)

    @override
    def finish(self) -> Decoded:
        """Take the orderly end of the connection."""
        last = super().finish()
        if last.error is not None:
            return last
        try:
            if self._cutter.stray:
                raise _stray(b"\n".join(self._cutter.stray))
            return Decoded(deltas=(*last.deltas, *self._reading.close()))
        except UpstreamError as error:
            return Decoded(deltas=last.deltas, error=error)

    @override
    def _read(self, part: SseEvent, deltas: list[ChatDelta]) -> bool:
        try:
            deltas += self._reading.take(decode(part.data))
        except UNREADABLE as error:
            raise malformed("The provider's stream holds an event that is not a chunk.") from error
        return False


class _Parser(SseParser):
    """Keeps the lines that belong to no event: errors come as plain JSON over several lines."""

    def __init__(self) -> None:
        super().__init__(EVENT_BYTES)
        self.stray: list[bytes] = []
        self._stray_bytes = 0

    @override
    def _line(self, line: bytes, events: list[SseEvent]) -> None:
        if line and not line.startswith(_FIELDS):
            self._stray_bytes += len(line)
            if self._stray_bytes <= STRAY_BYTES:
                self.stray.append(line)
            return
        super()._line(line, events)


def _stray(text: bytes) -> UpstreamError:
    """Return what stands in a stream outside of events: an error, in a list or alone."""
    try:
        found = msgspec.json.decode(text)
    except UNREADABLE:
        found = None
    if isinstance(found, list) and found:
        found = found[0]
    if isinstance(found, dict) and found.get("error"):
        return error_inside(found["error"])
    return malformed("The provider's stream holds text that is no event.")


GEMINI = TargetDialect(
    name="gemini",
    parse_response=parse_response,
    error_of=error_of,
    refuse_head=refuse_stream,
    decoder=GeminiDecoder,
    tier_in=tier_in,
)
"""The Developer API."""

VERTEX = TargetDialect(
    name="gemini",
    parse_response=lambda body, asked: parse_response(body, asked, vertex=True),
    error_of=error_of,
    refuse_head=refuse_stream,
    decoder=lambda asked: GeminiDecoder(asked, vertex=True),
    tier_in=tier_in,
)
"""Vertex AI."""
