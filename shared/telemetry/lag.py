"""How late the event loop is: what is due waits that long for its turn."""

from collections import deque

from shared.clock import Clock
from shared.telemetry.metrics import EVENT_LOOP_LAG_SECONDS

LOOK_S = 0.1
LOOKS = 5
"""With a loop that is on time these are half a second; the later it is the longer they take."""


class LoopLag:
    """The lag of this process's event loop, looked at ten times a second.

    `typical_s` is the middle one of the last five looks: a process that stood still once has one
    long lag behind it, which says nothing about what is to come.
    """

    def __init__(self, role: str) -> None:
        self.typical_s = 0.0
        self._looks = deque([0.0] * LOOKS, maxlen=LOOKS)
        self._metric = EVENT_LOOP_LAG_SECONDS.labels(role)

    async def watch(self, clock: Clock) -> None:
        """Look for ever."""
        while True:
            due_s = clock.monotonic() + LOOK_S
            await clock.sleep(LOOK_S)
            self.add(max(0.0, clock.monotonic() - due_s))

    def add(self, late_s: float) -> None:
        """Take note of one look."""
        self._looks.append(late_s)
        self.typical_s = sorted(self._looks)[LOOKS // 2]
        self._metric.observe(late_s)
