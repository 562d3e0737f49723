"""Which calls are refused when this process has more to do than it can: the least urgent first."""

import resource
from collections.abc import Mapping
from zlib import crc32

import msgspec

from shared.config.conduct import ServerConfig
from shared.errors import Overloaded
from shared.telemetry.lag import LoopLag
from shared.telemetry.metrics import SHED

PRIORITY = b"x-sluiceway-priority"

FEW = 32
"""Below so many calls in flight no lag is of their making: refusing one would not help."""

OWN_FILES = 64
"""Open files that are no call's: logs, spool, database, Redis."""


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """What calls of a priority have of `server.max_in_flight` and of `server.max_lag_s`."""

    in_flight: float
    lag: float


SHARES = {
    "interactive": Share(in_flight=1.0, lag=1.0),
    "default": Share(in_flight=0.85, lag=0.6),
    "batch": Share(in_flight=0.6, lag=0.3),
}
FIRST_TO_GO = SHARES["batch"]


def priority_of(headers: Mapping[bytes, bytes]) -> str:
    """Return a call's priority: who waits for an answer is `interactive` unless it says less."""
    said = headers.get(PRIORITY, b"").decode("latin-1")
    return said if said in SHARES else "interactive"


def overload(
    priority: str, *, in_flight: int, lag_s: float, most: int, most_lag_s: float
) -> str | None:
    """Return why a call of this priority is not taken, None when it is; itself is `in_flight`."""
    share = SHARES[priority]
    if in_flight > most * share.in_flight:
        return "in_flight"
    if in_flight > FEW and lag_s > most_lag_s * share.lag:
        return "lag"
    return None


class Door:
    """Lets calls in while there is room. One per process.

    `most` calls may be in flight, whatever the config says.
    """

    def __init__(self, server: ServerConfig, lag: LoopLag, most: int) -> None:
        self._lag = lag
        self._most = min(most, server.max_in_flight)
        self._most_lag_s = server.max_lag_s
        self._free_calls = int(self._most * FIRST_TO_GO.in_flight)
        self._free_lag_s = self._most_lag_s * FIRST_TO_GO.lag

    def check(
        self, in_flight: int, headers: Mapping[bytes, bytes], request_id: str, *, later: bool
    ) -> None:
        """Return when the call may come in. Its body is not looked at.

        A job that is only to be accepted is as urgent as can be, for it relieves us.

        Raises:
            Overloaded: it may not; the wait it names is spread by the request's id.
        """
        if in_flight <= self._free_calls and self._lag.typical_s <= self._free_lag_s:
            return
        priority = "interactive" if later else priority_of(headers)
        reason = overload(
            priority,
            in_flight=in_flight,
            lag_s=self._lag.typical_s,
            most=self._most,
            most_lag_s=self._most_lag_s,
        )
        if reason is None:
            return
        SHED.labels(priority, reason).inc()
        raise Overloaded(
            "The gateway has more to do than it can; try again in a few seconds.",
            retry_after_s=1.0 + 2.0 * crc32(request_id.encode()) / 2**32,
        )


def room_for_calls() -> int:
    """Return how many calls the limit of open files leaves room for: each takes two sockets."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most == resource.RLIM_INFINITY:
        return 2**31
    return max(1, (most - OWN_FILES) // 2)
