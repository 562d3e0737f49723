"""Access lines and request metrics, written in batches off the hot path."""

import sys
from typing import TextIO

import msgspec

from shared.clock import Clock
from shared.telemetry.metrics import observe_request

WRITE_S = 0.25
MAX_WAITING = 20_000
"""Lines kept while the terminal or pipe does not take them; beyond it the oldest are dropped."""

_encode = msgspec.json.Encoder().encode


class Served(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One call that has been answered."""

    request_id: str
    endpoint: str
    status: int
    elapsed_s: float
    code: str | None = None
    tenant_id: str | None = None
    model: str | None = None


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A Served as it is logged."""

    timestamp: str
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
        self._waiting: list[tuple[Served, str]] = []

    def add(self, served: Served) -> None:
        """Count it now, log it soon."""
        observe_request(served.endpoint, served.status, served.code, served.elapsed_s)
        if self._write:
            if len(self._waiting) >= MAX_WAITING:
                del self._waiting[: MAX_WAITING // 10]
            self._waiting.append((served, self._clock.now().isoformat()))

    async def run(self) -> None:
        """Write for ever; the owner calls `flush` a last time."""
        while True:
            await self._clock.sleep(WRITE_S)
            self.flush()

    def flush(self) -> None:
        """Write all that waits."""
        waiting, self._waiting = self._waiting, []
        if waiting:
            self._out.write("".join(_line(served, at) for served, at in waiting))
            self._out.flush()


def _line(served: Served, at: str) -> str:
    line = Line(
        timestamp=at,
        request_id=served.request_id,
        endpoint=served.endpoint,
        status=served.status,
        elapsed_ms=round(served.elapsed_s * 1000, 2),
        code=served.code,
        tenant_id=served.tenant_id,
        model=served.model,
    )
    return '{"event":"request.served","level":"info",' + _encode(line)[1:].decode() + "\n"
