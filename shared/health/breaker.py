"""When a failing target is left alone, and when it is asked again. Pure.

Closed: every call goes through. Open: none does, for `open_s`. Half open: `half_open_probes` at a
time find out whether the target is back; as many successes close it, one failure opens it again.
"""

import enum
from collections.abc import Sequence

import msgspec

from shared.config.model import Breaker

LEAST_CALLS = 20
"""Below so many calls within the window a share of failures says nothing (DESIGN 6)."""
SLICES = 10
"""The window is counted in so many parts; a part leaves it as a whole."""


class Phase(enum.Enum):
    """Whether calls go through."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Verdict(enum.Enum):
    """What a call that has ended says of its target: nothing, where its caller was at fault."""

    GOOD = "good"
    BAD = "bad"
    SILENT = "silent"


GOOD, SILENT = Verdict.GOOD, Verdict.SILENT
"""For every call: Python 3.11 goes a long way to a member by its class."""


class Slice(msgspec.Struct, frozen=True):
    """What ended in one part of the window."""

    number: int
    calls: int
    failures: int


class BreakerState(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one target.

    `since_s` is the monotonic moment of the last change of phase, `reason` what it was for.
    `probes` are under way, `passed` have gone well since the target was asked again.
    """

    phase: Phase = Phase.CLOSED
    since_s: float = 0.0
    reason: str | None = None
    consecutive: int = 0
    slices: tuple[Slice, ...] = ()
    probes: int = 0
    passed: int = 0


FRESH = BreakerState()


def admits(state: BreakerState, breaker: Breaker, now_s: float) -> bool:
    """Return whether another call may go through now."""
    match state.phase:
        case Phase.CLOSED:
            return True
        case Phase.OPEN:
            return now_s >= state.since_s + breaker.open_s
        case Phase.HALF_OPEN:
            return state.probes < breaker.half_open_probes


def begun(state: BreakerState, breaker: Breaker, now_s: float) -> BreakerState:
    """Return the state once an admitted call goes through; after `open_s` the first is a probe."""
    match state.phase:
        case Phase.CLOSED:
            return state
        case Phase.OPEN if now_s >= state.since_s + breaker.open_s:
            return BreakerState(phase=Phase.HALF_OPEN, since_s=now_s, reason=state.reason, probes=1)
        case Phase.OPEN:  # it goes through all the same: there was no other target
            return state
        case Phase.HALF_OPEN:
            return msgspec.structs.replace(state, probes=state.probes + 1)


def ended(
    state: BreakerState,
    breaker: Breaker,
    verdict: Verdict,
    now_s: float,
    reason: str | None = None,
) -> BreakerState:
    """Return the state after a call has ended. `reason` is the kind of a failure."""
    match state.phase:
        case Phase.CLOSED:
            return _heard(state, breaker, verdict, now_s, reason)
        case Phase.OPEN:  # it began before: the target's own probes decide
            return state
        case Phase.HALF_OPEN:
            return _probed(state, breaker, verdict, now_s, reason)


def _heard(
    state: BreakerState, breaker: Breaker, verdict: Verdict, now_s: float, reason: str | None
) -> BreakerState:
    if verdict is Verdict.SILENT:
        return state
    failed = verdict is Verdict.BAD
    state = counted(state, slice_of(now_s, breaker), calls=1, failures=int(failed))
    consecutive = state.consecutive + 1 if failed else 0
    if failed and (consecutive >= breaker.failures or _mostly_failed(state.slices)):
        return BreakerState(phase=Phase.OPEN, since_s=now_s, reason=reason)
    return msgspec.structs.replace(state, consecutive=consecutive)


def _probed(
    state: BreakerState, breaker: Breaker, verdict: Verdict, now_s: float, reason: str | None
) -> BreakerState:
    probes = max(0, state.probes - 1)
    match verdict:
        case Verdict.BAD:
            return BreakerState(phase=Phase.OPEN, since_s=now_s, reason=reason)
        case Verdict.SILENT:
            return msgspec.structs.replace(state, probes=probes)
        case Verdict.GOOD if state.passed + 1 >= breaker.half_open_probes:
            return BreakerState(since_s=now_s)
        case Verdict.GOOD:
            return msgspec.structs.replace(state, probes=probes, passed=state.passed + 1)


def slice_of(now_s: float, breaker: Breaker) -> int:
    """Return the number of the window's part that a moment belongs to."""
    return int(now_s * SLICES / breaker.window_s)


def counted(state: BreakerState, number: int, *, calls: int, failures: int = 0) -> BreakerState:
    """Return the state with calls that ended in one part of the window."""
    *kept, last = state.slices or (Slice(number, 0, 0),)
    if last.number == number:
        last = Slice(number, last.calls + calls, last.failures + failures)
        slices = (*kept, last)
    else:
        slices = (*state.slices, Slice(number, calls, failures))
    return msgspec.structs.replace(
        state, slices=tuple(one for one in slices if one.number > number - SLICES)
    )


def _mostly_failed(slices: Sequence[Slice]) -> bool:
    calls = sum(one.calls for one in slices)
    return calls >= LEAST_CALLS and 2 * sum(one.failures for one in slices) >= calls
