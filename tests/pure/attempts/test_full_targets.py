"""Targets without room, on their way through the chain."""

import pytest

from shared.attempts.chain import TargetFull, Try, run_chain
from shared.clock import Deadline
from shared.errors import ChainFailed, FailureKind, RateLimitExceeded, UpstreamError
from tests.fakes.clock import FakeClock
from tests.pure.attempts.test_chain import Script, fails, make_plan

pytestmark = pytest.mark.anyio


class Full:
    """A result of a script: there is room after so many seconds."""

    def __init__(self, retry_after_s: float) -> None:
        self.retry_after_s = retry_after_s


class Limited:
    """Plays a script, in which targets may be full."""

    def __init__(self, **results: list[UpstreamError | str | Full]) -> None:
        self.full = {
            name: [one for one in list_ if isinstance(one, Full)] for name, list_ in results.items()
        }
        self.script = Script(
            **{
                name: [one for one in list_ if not isinstance(one, Full)]
                for name, list_ in results.items()
            }
        )
        self.numbers: list[int] = []

    async def __call__(self, tried: Try) -> str:
        self.numbers.append(tried.number)
        name = tried.step.target.provider
        if self.full[name]:
            wait_s = self.full[name].pop(0).retry_after_s
            raise TargetFull(RateLimitExceeded(f"{name} is full.", retry_after_s=wait_s))
        return await self.script(tried)


async def run(plan, script: Limited) -> str:
    clock = FakeClock()
    deadline = Deadline.after(600, clock)
    return await run_chain(plan, script, clock=clock, deadline=deadline, draw=lambda: 0.5)


async def test_the_next_target_answers_and_it_was_one_attempt() -> None:
    script = Limited(alpha=[Full(9)], beta=["hello"])

    assert "hello" == await run(make_plan("alpha", "beta"), script)
    assert ["beta"] == script.script.calls
    assert [1, 1] == script.numbers


async def test_more_full_targets_than_a_chain_has_attempts() -> None:
    names = [f"t{number}" for number in range(12)]
    script = Limited(**{name: [Full(1)] for name in names}, last=["hello"])

    assert "hello" == await run(make_plan(*names, "last"), script)


async def test_when_all_are_full_the_shortest_wait_is_told() -> None:
    script = Limited(alpha=[Full(9)], beta=[Full(4)], gamma=[Full(7)])

    with pytest.raises(RateLimitExceeded, match="beta is full") as caught:
        await run(make_plan("alpha", "beta", "gamma"), script)

    assert 4 == caught.value.retry_after_s


async def test_the_redirect_for_limited_rates_is_followed_after_the_last_target_only() -> None:
    plan = make_plan("alpha", "beta", redirects={FailureKind.RATE_LIMITED: ("other",)})
    script = Limited(alpha=[Full(9), Full(9)], beta=["hello", Full(9)], other=["there"])

    script.full["beta"] = []
    assert "hello" == await run(plan, script)
    script.full["beta"] = [Full(1)]
    assert "there" == await run(plan, script)


@pytest.mark.parametrize(
    ("kind", "code", "retry_after_s"),
    [
        (FailureKind.RATE_LIMITED, "rate_limit_exceeded", 5),
        (FailureKind.SERVER_ERROR, "all_targets_failed", None),
        (FailureKind.CONTENT_FILTER, "content_filter", 5),
    ],
)
async def test_full_targets_beside_failed_ones(kind, code, retry_after_s) -> None:
    """They count as targets that limit us, and are no attempts."""
    script = Limited(alpha=[Full(5)], beta=[fails(kind, 9.0), fails(kind, 9.0)])

    with pytest.raises(ChainFailed) as caught:
        await run(make_plan("alpha", "beta"), script)

    assert (code, retry_after_s) == (caught.value.code, caught.value.retry_after_s)
    assert {"beta"} == {attempt.provider for attempt in caught.value.attempts}
