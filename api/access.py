"""Access lines and request metrics, written in batches off the hot path."""

import sys
from datetime import datetime
from typing import TextIO

import msgspec

from shared.clock import Clock
from shared.telemetry.metrics import observe_request

WRITE_S = 0.25
MAX_WAITING = 20_000
"""Lines kept while the terminal or pipe does not take them; beyond it the oldest are dropped."""

_encode = msgspec.json.Encoder().encode_lines


class Served(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    tag_field="event",
    tag="request.served",
):
    """One call that has been answered, and its line in the log."""

    level: str
    timestamp: datetime
    request_id: str
    endpoint: str
    status: int
    elapsed_ms: float
    code: str | None = None
    tenant_id: str | None = None
    model: str | None = None


class AccessLog:
    """Collects what was served; `run` writes it out."""

    def __init__(self, clock: Clock, *, write: bool, out: TextIO = sys.stderr) -> None:
        self._clock = clock
        self._write = write
        self._out = out
        self._waiting: list[Served] = []

    def add(self, served: Served) -> None:
        """Count it now, log it soon."""
        observe_request(served.endpoint, served.status, served.code, served.elapsed_ms / 1000)
        if self._write:
            if len(self._waiting) >= MAX_WAITING:
                del self._waiting[: MAX_WAITING // 10]
            self._waiting.append(served)

    async def run(self) -> None:
        """Write for ever; the owner calls `flush` a last time."""
        while True:
            await self._clock.sleep(WRITE_S)
            self.flush()

    def flush(self) -> None:
        """Write all that waits."""
        waiting, self._waiting = self._waiting, []
        if waiting:
            self._out.write(_encode(waiting).decode())
            self._out.flush()
