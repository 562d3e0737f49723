"""Requests and answers in the log, for who has asked for them: `logging.bodies`.

A call hands over bytes that it has anyway; decoding, scrubbing and writing happen in the thread
that writes the lines.
"""

from datetime import datetime

import msgspec

from shared.config.conduct import LoggingConfig
from shared.telemetry.folded import folded
from shared.telemetry.lines import LINES, Lines
from shared.telemetry.metrics import BODIES_LOGGED
from shared.telemetry.sampling import sampled
from shared.telemetry.scrubbing import Scrubber

MOST_BYTES = 4 * 1024 * 1024
"""Of one body; a larger one is told by its size, for decoding it would hold up the calls."""
MOST_STREAM_BYTES = 1024 * 1024
"""Kept of a stream until its end; what comes after is not logged."""

_encode = msgspec.json.Encoder(enc_hook=str).encode


class StreamCopy:
    """The pieces of a stream as they went out, as far as they are kept."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.kept_bytes = 0
        self.whole = True

    def add(self, piece: bytes) -> None:
        """Keep a piece; costs next to nothing."""
        self.kept_bytes += len(piece)
        if self.kept_bytes <= MOST_STREAM_BYTES:
            self.pieces.append(piece)
        else:
            self.kept_bytes -= len(piece)
            self.whole = False


class Exchanged(msgspec.Struct, frozen=True, kw_only=True):
    """One call: what was asked and what was answered, whole or as a stream."""

    timestamp: datetime
    request_id: str
    endpoint: str
    status: int
    request: bytes
    response: bytes | StreamCopy
    code: str | None = None
    tenant_id: str | None = None
    model: str | None = None


class BodyLog:
    """Logs the bodies of the requests that the config says; `secrets` never appear in it."""

    def __init__(
        self, config: LoggingConfig, secrets: tuple[str, ...] = (), lines: Lines = LINES
    ) -> None:
        self._rate = config.sample_rate if config.bodies else -1.0
        self._scrubber = Scrubber(secrets, personal=config.redact_pii)
        self._lines = lines

    def wants(self, request_id: str) -> bool:
        """Return whether this request's bodies are logged: always the same for one id."""
        return self._rate > 0 and sampled(request_id, self._rate)

    def add(self, exchanged: Exchanged) -> None:
        """Log the bodies soon; never waits, never fails."""
        BODIES_LOGGED.inc()
        request, response = _bounded(exchanged.request), exchanged.response
        if isinstance(response, bytes):
            response = _bounded(response)
            kept_bytes = len(request) + len(response)
        else:
            kept_bytes = len(request) + response.kept_bytes
        bounded = msgspec.structs.replace(exchanged, request=request, response=response)
        self._lines.put_later(lambda: self._line(bounded), size_bytes=1_000 + kept_bytes)

    def _line(self, exchanged: Exchanged) -> bytes:
        response = exchanged.response
        if isinstance(response, StreamCopy):
            answer = self._scrubber.value(folded(response.pieces))
            whole = response.whole
        else:
            answer, whole = self._scrubber.body(response), True
        line = {
            "event": "request.bodies",
            "level": "info",
            "timestamp": exchanged.timestamp,
            "request_id": exchanged.request_id,
            "endpoint": exchanged.endpoint,
            "status": exchanged.status,
            "code": exchanged.code,
            "tenant_id": exchanged.tenant_id,
            "model": None if exchanged.model is None else self._scrubber.text(exchanged.model),
            "request": self._scrubber.body(exchanged.request),
            "response": answer,
        }
        if not whole:
            line["response_cut"] = True
        return _encode({name: value for name, value in line.items() if value is not None}) + b"\n"


def _bounded(raw: bytes) -> bytes:
    """Return the body, or a note on its size in its place: it is not held in memory for nothing."""
    return raw if len(raw) <= MOST_BYTES else b'"[%d bytes]"' % len(raw)
