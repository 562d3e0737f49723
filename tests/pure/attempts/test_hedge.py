"""What counts as slow, and what becomes of the calls of a race."""

import asyncio

import pytest

from shared.attempts.chain import AttemptFailed, Try, run_chain
from shared.attempts.hedge import LEAST_WAITS, Hedged, Race, Waits
from shared.attempts.retry_budget import UNBOUNDED, Allowance
from shared.clock import Deadline, SystemClock
from shared.errors import ChainFailed, FailedAttempt, FailureKind
from shared.routing.plan import Plan, Step
from tests.pure.attempts.test_chain import fails, make_plan

pytestmark = pytest.mark.anyio


def test_slow_is_what_few_waits_are():
    waits = Waits()
    for wait_s in range(LEAST_WAITS - 1):
        waits.add(float(wait_s))
    assert waits.slow_s() is None

    for wait_s in range(LEAST_WAITS - 1, 100):
        waits.add(float(wait_s))
    assert 94.0 == waits.slow_s()


def test_old_waits_are_forgotten():
    waits = Waits()
    for wait_s in [9.0] * 500 + [1.0] * 200:
        waits.add(wait_s)

    assert 1.0 == waits.slow_s()


class Calls:
    """Calls that last until they are told their answer; knows which were cancelled."""

    def __init__(self) -> None:
        self.answers: dict[str, asyncio.Future[str]] = {}
        self.begun = asyncio.Semaphore(0)
        self.cancelled: list[str] = []
        self.lost: list[str] = []
        self.races: list[Race] = []

    async def __call__(self, tried: Try) -> str:
        name = tried.step.target.provider
        answer = self.answers[name] = asyncio.get_running_loop().create_future()
        self.begun.release()
        try:
            return await answer
        except asyncio.CancelledError:
            self.cancelled.append(name)
            raise

    async def lose(self, late: str) -> None:
        self.lost.append(late)

    async def asked(self, count: int) -> None:
        """Return when so many calls are under way."""
        for _ in range(count):
            await asyncio.wait_for(self.begun.acquire(), 5)


class Never:
    """Allows nothing."""

    def again(self, _step: Step) -> bool:
        return False

    def onward(self, _step: Step) -> bool:
        return False


def hedging(calls: Calls, second: Step, allowance: Allowance = UNBOUNDED) -> Hedged[str]:
    return Hedged(
        calls,
        second,
        0.01,
        clock=SystemClock(),
        allowance=allowance,
        lost=calls.lose,
        raced=calls.races.append,
    )


def race(calls: Calls, allowance: Allowance = UNBOUNDED) -> "asyncio.Task[str]":
    first, second = make_plan("a", "b").steps
    hedged = hedging(calls, second, allowance)

    async def run() -> str:
        return await hedged(Try(step=first, number=1, limit_s=5.0))

    return asyncio.create_task(run())


def failure(provider: str, kind: FailureKind) -> AttemptFailed:
    shown = FailedAttempt(id="att_1", provider=provider, model="up", outcome="failed")
    return AttemptFailed(fails(kind), shown)


async def chain(plan: Plan, first: FailureKind, second: FailureKind) -> ChainFailed:
    """Return what a chain comes to whose race ends in two failures."""
    calls = Calls()
    task = asyncio.create_task(
        run_chain(
            plan,
            hedging(calls, plan.steps[1]),
            clock=SystemClock(),
            deadline=Deadline.after(60.0, SystemClock()),
            draw=lambda: 0.5,
        )
    )
    await calls.asked(2)
    calls.answers["b"].set_exception(failure("b", second))
    calls.answers["a"].set_exception(failure("a", first))
    with pytest.raises(ChainFailed) as caught:
        await task
    return caught.value


async def test_the_loser_is_cancelled():
    calls = Calls()
    task = race(calls)
    await calls.asked(2)
    calls.answers["b"].set_result("from b")

    assert "from b" == await task
    assert (["a"], [], [Race(second=True)]) == (calls.cancelled, calls.lost, calls.races)


async def test_what_came_too_late_is_given_back():
    """Both have answered by the time that one is looked at."""
    calls = Calls()
    task = race(calls)
    await calls.asked(2)
    calls.answers["a"].set_result("from a")
    calls.answers["b"].set_result("from b")

    assert "from a" == await task
    assert (["from b"], []) == (calls.lost, calls.cancelled)


async def test_who_leaves_leaves_both():
    calls = Calls()
    task = race(calls)
    await calls.asked(2)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert ["a", "b"] == sorted(calls.cancelled)


async def test_a_race_is_a_further_call():
    """Without an allowance for it the first target goes on alone."""
    calls = Calls()
    task = race(calls, Never())
    await calls.asked(1)
    await asyncio.sleep(0.03)
    calls.answers["a"].set_result("from a")

    assert "from a" == await task
    assert (["a"], []) == (list(calls.answers), calls.races)


@pytest.mark.parametrize(
    ("first", "second", "code"),
    [
        (FailureKind.REJECTED, FailureKind.SERVER_ERROR, "invalid_request"),
        (FailureKind.TIMEOUT, FailureKind.TIMEOUT, "upstream_timeout"),
        (FailureKind.TIMEOUT, FailureKind.MALFORMED, "all_targets_failed"),
    ],
)
async def test_both_failures_of_a_race_are_told_once(
    first: FailureKind, second: FailureKind, code: str
):
    """Whether the first one's ends the chain, or the second's turn comes."""
    failed = await chain(make_plan("a", "b"), first, second)

    assert (code, ["a", "b"]) == (failed.code, [one.provider for one in failed.attempts])


async def test_a_redirect_does_not_forget_the_second_failure():
    plan = make_plan("a", "b", redirects={FailureKind.CONTEXT_LENGTH: ()})
    failed = await chain(plan, FailureKind.CONTEXT_LENGTH, FailureKind.MALFORMED)

    assert ["a", "b"] == [one.provider for one in failed.attempts]
