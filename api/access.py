"""Access lines and request metrics, written in batches off the hot path."""

from datetime import datetime

import msgspec

from shared.clock import Clock
from shared.telemetry.lines import LINES, Lines
from shared.telemetry.sampling import sampled
from shared.telemetry.tally import observe_request

WRITE_S = 0.25
MOST_WAITING = 20_000
"""Lines of one batch; one more makes it a batch at once, should `run` not come to it."""
ERRORS_FROM = 400

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
    overhead_ms: float | None = None
    cache: str | None = None


class AccessLog:
    """Collects what was served; `run` has it written.

    Of requests that went well only `sample_rate` is written, errors always.
    """

    def __init__(
        self, clock: Clock, *, write: bool, sample_rate: float = 1.0, lines: Lines = LINES
    ) -> None:
        self._clock = clock
        self._write = write
        self._writes_all = write and sample_rate >= 1.0
        self._sample_rate = sample_rate
        self._lines = lines
        self._waiting: list[Served] = []

    def add(self, served: Served) -> None:
        """Count it and log it soon."""
        overhead_ms = served.overhead_ms
        observe_request(
            served.endpoint,
            served.status,
            served.code,
            served.elapsed_ms / 1000,
            None if overhead_ms is None else overhead_ms / 1000,
        )
        if self._writes_all or self._wants(served):
            self._waiting.append(served)
            if len(self._waiting) > MOST_WAITING:
                self.flush()

    def _wants(self, served: Served) -> bool:
        failed = served.status >= ERRORS_FROM or served.code is not None
        return self._write and (failed or sampled(served.request_id, self._sample_rate))

    async def run(self) -> None:
        """Write for ever; the owner calls `flush` a last time."""
        while True:
            await self._clock.sleep(WRITE_S)
            self.flush()

    def flush(self) -> None:
        """Write all that waits."""
        waiting, self._waiting = self._waiting, []
        if waiting:
            self._lines.put(_encode(waiting), lines=len(waiting))
