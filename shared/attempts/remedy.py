"""What to do after a failed attempt. Pure."""

import enum
from collections.abc import Callable

import msgspec

from shared.config.model import Retry
from shared.errors import FailureKind, UpstreamError
from shared.routing.order import Draw

MAX_CHAIN_ATTEMPTS = 6
"""Calls in one chain, whatever the plan says (DESIGN 6)."""

LEAST_ATTEMPT_S = 0.05
"""With less than this left no further call is started: it could only fail."""


class Remedy(enum.Enum):
    """After a failure: again, elsewhere, or not at all."""

    RETRY = "retry"
    FALL_BACK = "fall_back"
    GIVE_UP = "give_up"


class NextStep(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The remedy, and for RETRY the seconds to wait first."""

    remedy: Remedy
    wait_s: float = 0.0


def next_step(
    error: UpstreamError,
    *,
    tries: int,
    retry: Retry,
    alternatives: bool,
    time_left_s: float,
    draw: Draw,
    allowed: Callable[[], bool] = lambda: True,
) -> NextStep:
    """Decide by the kind of failure.

    `tries` counts calls to this target, `alternatives` says whether the plan has other targets.
    `allowed` is asked last, when nothing else speaks against a retry.
    A silent, malformed or refusing target is not asked again, nor one that said so; an overloaded
    or limiting one only when it is the last, since another may answer at once.
    """
    match error.kind:
        case FailureKind.CONTEXT_LENGTH | FailureKind.CONTENT_FILTER | FailureKind.REJECTED:
            return NextStep(remedy=Remedy.GIVE_UP)
        case (
            FailureKind.TIMEOUT
            | FailureKind.MALFORMED
            | FailureKind.CREDENTIAL
            | FailureKind.NOT_FOUND
        ):
            return NextStep(remedy=Remedy.FALL_BACK)
        case FailureKind.RATE_LIMITED | FailureKind.OVERLOADED if alternatives:
            return NextStep(remedy=Remedy.FALL_BACK)
        case _ if not error.again:
            return NextStep(remedy=Remedy.FALL_BACK)
        case _:
            pass
    wait_s = backoff_s(tries, retry, error.retry_after_s, draw)
    too_long = wait_s > retry.max_s or wait_s + LEAST_ATTEMPT_S > time_left_s
    if tries >= retry.max_attempts or too_long or not allowed():
        return NextStep(remedy=Remedy.FALL_BACK)
    return NextStep(remedy=Remedy.RETRY, wait_s=wait_s)


def backoff_s(tries: int, retry: Retry, hint_s: float | None, draw: Draw) -> float:
    """Return full jitter below `base_s` doubled per try, at most `max_s`; never below the hint.

    A hint gets up to a tenth more, so that callers who were told the same do not return together.
    """
    ceiling_s = min(retry.max_s, retry.base_s * 2.0 ** (tries - 1))
    jittered_s = draw() * ceiling_s
    if hint_s is None:
        return jittered_s
    return max(jittered_s, hint_s * (1 + 0.1 * draw()))
