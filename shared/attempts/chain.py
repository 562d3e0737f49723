"""The loop over a plan, the same for whole answers and streams, for the API and for jobs."""

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import msgspec

from shared.attempts.remedy import LEAST_ATTEMPT_S, MAX_CHAIN_ATTEMPTS, Remedy, next_step
from shared.clock import Clock, Deadline
from shared.errors import (
    CHAIN_CODES,
    ChainFailed,
    FailedAttempt,
    FailureKind,
    GatewayError,
    UpstreamError,
)
from shared.routing.plan import Draw, Plan, Step

Won = TypeVar("Won")


class AttemptFailed(Exception):
    """What a call raises: the failure, and how it is shown in `error.attempts`.

    `own` is set when the target was not asked at all, because it cannot be asked this.
    """

    def __init__(
        self, error: UpstreamError, shown: FailedAttempt, own: GatewayError | None = None
    ) -> None:
        super().__init__(error.message)
        self.error = error
        self.shown = shown
        self.own = own


class Try(msgspec.Struct, frozen=True, kw_only=True):
    """One call the chain asks for. `limit_s` is what the deadline leaves it, in seconds."""

    step: Step
    number: int
    limit_s: float


async def run_chain(
    plan: Plan,
    call: Callable[[Try], Awaitable[Won]],
    *,
    clock: Clock,
    deadline: Deadline,
    draw: Draw,
) -> Won:
    """Call the plan's targets in order until one answers.

    Raises:
        ChainFailed: none answered, or a failure showed that none will. Carries every attempt.
        GatewayError: no target could be asked; why the last one could not.
    """
    failed: list[AttemptFailed] = []
    steps = deque(plan.steps)
    redirected = False
    while steps:
        step = steps.popleft()
        tries = 0
        while True:
            left_s = deadline.left_s(clock)
            if left_s < LEAST_ATTEMPT_S or len(failed) >= MAX_CHAIN_ATTEMPTS:
                raise chain_failure(failed)
            try:
                return await call(Try(step=step, number=len(failed) + 1, limit_s=left_s))
            except AttemptFailed as failure:
                failed.append(failure)
            tries += 1
            error = failed[-1].error
            if not redirected and (other := plan.redirects.get(error.kind)) is not None:
                steps, redirected = deque(other), True
                break
            following = next_step(
                error,
                tries=tries,
                retry=step.retry,
                alternatives=bool(steps),
                time_left_s=deadline.left_s(clock),
                draw=draw,
            )
            if following.remedy is Remedy.GIVE_UP:
                raise chain_failure(failed)
            if following.remedy is Remedy.FALL_BACK:
                break
            await clock.sleep(following.wait_s)
    raise chain_failure(failed)


def chain_failure(failed: Sequence[AttemptFailed]) -> GatewayError:
    """Return what the caller sees: the one kind all failures had, or `all_targets_failed`.

    A failure that ends the chain by itself (a rejected body, say) speaks for all: retrying
    elsewhere could not have helped. Where no target could even be asked, it is the reason for that.
    """
    shown = tuple(failure.shown for failure in failed)
    if not failed:
        return ChainFailed("upstream_timeout", "No time was left to call a provider.", attempts=())
    if failed[-1].own is not None and all(failure.own is not None for failure in failed):
        return failed[-1].own
    last = failed[-1].error
    kinds = {failure.error.kind for failure in failed}
    if len(kinds) > 1 and not _speaks_for_all(last):
        return ChainFailed(
            "all_targets_failed",
            f"All {len(failed)} attempts failed, in different ways; the last: {last.message}",
            attempts=shown,
        )
    hints = [
        failure.error.retry_after_s for failure in failed if failure.error.retry_after_s is not None
    ]
    return ChainFailed(
        CHAIN_CODES[last.kind],
        last.message,
        attempts=shown,
        error=last,
        retry_after_s=min(hints, default=None),
    )


def _speaks_for_all(error: UpstreamError) -> bool:
    return error.kind in {
        FailureKind.REJECTED,
        FailureKind.CONTEXT_LENGTH,
        FailureKind.CONTENT_FILTER,
    }
