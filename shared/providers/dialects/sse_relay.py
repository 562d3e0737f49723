"""What relays of a stream of events have in common: pass on, learn, know when it is whole."""

import abc

from shared.chat.usage import Usage
from shared.errors import UpstreamError
from shared.providers.decoding import malformed
from shared.providers.dialects.sse import EventTooLarge, SseEvent, SseParser
from shared.providers.exchange import Scan


class EventRelay(abc.ABC):
    """A StreamScanner over events; what one says is its heir's business.

    An heir sets `finished` when the answer is whole and `_ended` at the stream's own end mark, and
    counts content by `_count`.
    """

    def __init__(self, secret: str | None, parser: SseParser | None = None) -> None:
        self.model: str | None = None
        self.usage: Usage | None = None
        self.finished = False
        self.content_bytes = 0
        self.service_tier: str | None = None
        self._secret = secret
        self._parser = parser or SseParser()
        self._content_events = 0
        self._ended = False
        self._error: UpstreamError | None = None

    def feed(self, chunk: bytes) -> Scan:
        """Take the next bytes. After the end mark or an error nothing more is looked at."""
        if self._ended or self._error is not None:
            return self._scan(b"")
        try:
            events = self._parser.feed(chunk)
        except EventTooLarge as error:
            self._error = malformed(f"The provider's stream is unreadable: {error}.")
            return self._scan(b"")
        return self._scan(self._taken(events))

    def finish(self) -> Scan:
        """Take the orderly end of the connection: `error` is set unless the answer was whole."""
        out = self._taken(self._parser.finish())
        if self._error is None and not self.finished:
            self._error = malformed("The provider's stream ended before its answer did.")
        return self._scan(out)

    @abc.abstractmethod
    def closing(self, cost_usd: str | None) -> bytes:
        """Return what the caller still gets after the last event."""

    @abc.abstractmethod
    def _take(self, event: SseEvent) -> bytes:
        """Learn from one event and return what of it goes on.

        Raises:
            UpstreamError: it is none, or an error.
        """

    def _count(self, length_bytes: int) -> None:
        """Count an event with content."""
        if length_bytes:
            self._content_events += 1
            self.content_bytes += length_bytes

    def _taken(self, events: list[SseEvent]) -> bytes:
        out = []
        for event in events:
            if self._ended or self._error is not None:
                break
            try:
                out.append(self._take(event))
            except UpstreamError as error:
                self._error = error
        return b"".join(out)

    def _scan(self, out: bytes) -> Scan:
        content_events, self._content_events = self._content_events, 0
        return Scan(
            out=out,
            content_events=content_events,
            finished=self.finished,
            ended=self._ended,
            error=self._error,
        )
