"""The loop over a plan, the same for whole answers and streams, for the API and for jobs."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

import msgspec

from shared.attempts.remedy import LEAST_ATTEMPT_S, MAX_CHAIN_ATTEMPTS, Remedy, next_step
from shared.attempts.retry_budget import UNBOUNDED, Allowance
from shared.clock import Clock, Deadline
from shared.errors import (
    CHAIN_CODES,
    ChainFailed,
    FailedAttempt,
    FailureKind,
    GatewayError,
    RateLimitExceeded,
    UpstreamError,
)
from shared.routing.order import Draw
from shared.routing.plan import Plan, Step

Won = TypeVar("Won")

_LIMITING = FailureKind.RATE_LIMITED


class AttemptFailed(Exception):
    """What a call raises: the failure, and how it is shown in `error.attempts`.

    `own` is set when the target was not asked at all, because it cannot be asked this. `beside` is
    the failure of a call that was made beside this one, and whose turn may not come.
    """

    beside: "AttemptFailed | None" = None

    def __init__(
        self, error: UpstreamError, shown: FailedAttempt, own: GatewayError | None = None
    ) -> None:
        super().__init__(error.message)
        self.error = error
        self.shown = shown
        self.own = own


class TargetFull(Exception):
    """What a call raises whose target has as much as its limits allow. Nothing was asked.

    `refusal` says which limit it was and when there is room again.
    """

    def __init__(self, refusal: RateLimitExceeded) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


class Try(msgspec.Struct, frozen=True, kw_only=True, gc=False):
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
    allowance: Allowance = UNBOUNDED,
) -> Won:
    """Call the plan's targets in order until one answers, as far as the allowance goes.

    A target without room is passed over, which is no attempt. When that was the last, the plan's
    redirect for limited rates is followed.

    Raises:
        ChainFailed: none answered, or a failure showed that none will. Carries every attempt.
        RateLimitExceeded: none had room; of the waits it names the shortest.
        GatewayError: no target could be asked; why the last one could not.
    """
    failed: list[AttemptFailed] = []
    full: list[RateLimitExceeded] = []
    way = _Way([*plan.steps], plan.redirects, allowance, plan.redirected)
    while (step := way.next(failed)) is not None:
        tries = 0
        while True:
            left_s = deadline.left_s(clock)
            if left_s < LEAST_ATTEMPT_S or len(failed) >= MAX_CHAIN_ATTEMPTS:
                raise chain_failure(failed, full)
            try:
                return await call(Try(step=step, number=len(failed) + 1, limit_s=left_s))
            except TargetFull as passed:
                full.append(passed.refusal)
                if not way.left:
                    way.redirect(FailureKind.RATE_LIMITED)
                break
            except AttemptFailed as failure:
                failed.append(failure)
            tries += 1
            error = failed[-1].error
            if way.redirect(error.kind):
                break
            following = next_step(
                error,
                tries=tries,
                retry=step.retry,
                alternatives=bool(way.left),
                time_left_s=deadline.left_s(clock),
                draw=draw,
                allowed=partial(allowance.again, step),
            )
            if following.remedy is Remedy.GIVE_UP and way.redirected is not error.kind:
                raise chain_failure(failed, full)
            if following.remedy is not Remedy.RETRY:
                break
            await clock.sleep(following.wait_s)
    raise chain_failure(failed, full)


class _Way(msgspec.Struct, eq=False, gc=False):
    """The steps that are left of a plan; a redirect takes their place, once.

    `redirected` is the kind of failure that it was for, which the next of them may mend.
    """

    left: list[Step]
    _redirects: Mapping[FailureKind, tuple[Step, ...]]
    _allowance: Allowance
    redirected: FailureKind | None

    def next(self, failed: Sequence[AttemptFailed]) -> Step | None:
        """Take the next step; after a failure, the next that the allowance lets through."""
        while self.left:
            step = self.left.pop(0)
            if not failed or self._allowance.onward(step):
                return step
        return None

    def redirect(self, kind: FailureKind) -> bool:
        """Go where the plan says after such a failure; return whether it says anything."""
        other = self._redirects.get(kind) if self.redirected is None else None
        if other is None:
            return False
        self.left, self.redirected = [*other], kind
        return True


def chain_failure(
    failed: Sequence[AttemptFailed], full: Sequence[RateLimitExceeded] = ()
) -> GatewayError:
    """Return what the caller sees: the one kind all failures had, or `all_targets_failed`.

    A failure that ends the chain by itself (a rejected body, say) speaks for all: retrying
    elsewhere could not have helped. Where no target could even be asked, it is the reason for that.
    Targets that were `full` count as limiting ones, without being attempts.
    """
    if full and not failed:
        return min(full, key=lambda refusal: refusal.retry_after_s)
    if not failed:
        return ChainFailed("upstream_timeout", "No time was left to call a provider.", attempts=())
    last, own = failed[-1].error, failed[-1].own
    failed = _with_those_beside(failed)
    if own is not None and all(failure.own is not None for failure in failed):
        return own
    shown = tuple(failure.shown for failure in failed)
    kinds = {failure.error.kind for failure in failed} | {_LIMITING for _ in full}
    if len(kinds) > 1 and not _speaks_for_all(last):
        return ChainFailed(
            "all_targets_failed",
            _told(last, len(failed), full),
            attempts=shown,
        )
    hints = [
        failure.error.retry_after_s for failure in failed if failure.error.retry_after_s is not None
    ]
    hints += [refusal.retry_after_s for refusal in full]
    return ChainFailed(
        CHAIN_CODES[last.kind],
        last.message,
        attempts=shown,
        error=last,
        retry_after_s=min(hints, default=None),
    )


def _with_those_beside(failed: Sequence[AttemptFailed]) -> list[AttemptFailed]:
    """Return the failures with those of calls that were made beside others, each once."""
    found: list[AttemptFailed] = []
    for failure in failed:
        found.append(failure)
        if failure.beside is not None and failure.beside not in failed:
            found.append(failure.beside)
    return found


def _told(last: UpstreamError, count: int, full: Sequence[RateLimitExceeded]) -> str:
    if full:
        return f"{full[-1].message} Elsewhere {count} attempts failed; the last: {last.message}"
    return f"All {count} attempts failed, in different ways; the last: {last.message}"


def _speaks_for_all(error: UpstreamError) -> bool:
    return error.kind in {
        FailureKind.REJECTED,
        FailureKind.CONTEXT_LENGTH,
        FailureKind.CONTENT_FILTER,
    }
