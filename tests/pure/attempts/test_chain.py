"""The chain: retry, fall back, give up, and what the caller is told."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.attempts.chain import AttemptFailed, Try, run_chain
from shared.attempts.remedy import MAX_CHAIN_ATTEMPTS, Remedy, backoff_s, next_step
from shared.clock import Deadline
from shared.config.model import Retry, Timeouts
from shared.errors import ChainFailed, FailedAttempt, FailureKind, UpstreamError
from shared.providers.target import Target
from shared.routing.plan import Plan, Step
from tests.fakes.clock import FakeClock

pytestmark = pytest.mark.anyio

KINDS = list(FailureKind)


def make_plan(*providers: str, redirects: dict[FailureKind, tuple[str, ...]] | None = None) -> Plan:
    """A plan over one target of each provider, two calls to each at most."""

    def steps(names: tuple[str, ...]) -> tuple[Step, ...]:
        return tuple(
            Step(
                route="m",
                target=Target(provider=name, model="up"),
                retry=Retry(max_attempts=2, base_s=1.0, max_s=8.0),
                timeouts=Timeouts(),
            )
            for name in names
        )

    return Plan(
        route="m",
        configured="m",
        steps=steps(providers),
        redirects={kind: steps(names) for kind, names in (redirects or {}).items()},
    )


class Script:
    """Plays a list of results for each provider, and keeps who was called."""

    def __init__(self, **results: list[UpstreamError | str]) -> None:
        self.results = results
        self.calls: list[str] = []

    async def __call__(self, tried: Try) -> str:
        provider = tried.step.target.provider
        self.calls.append(provider)
        result = self.results[provider].pop(0)
        if isinstance(result, str):
            return result
        shown = FailedAttempt(
            id=f"att_{tried.number}",
            provider=provider,
            model="up",
            outcome="failed",
            kind=result.kind.value,
        )
        raise AttemptFailed(result, shown)


def fails(kind: FailureKind, retry_after_s: float | None = None) -> UpstreamError:
    return UpstreamError(kind, f"it was {kind.value}", retry_after_s=retry_after_s)


async def run(plan: Plan, script: Script, clock: FakeClock, total_s: float = 600.0) -> str:
    deadline = Deadline.after(total_s, clock)
    return await run_chain(plan, script, clock=clock, deadline=deadline, draw=lambda: 0.5)


@pytest.mark.parametrize(
    ("kind", "calls"),
    [
        (FailureKind.SERVER_ERROR, ["alpha", "alpha", "beta"]),
        (FailureKind.CONNECTION, ["alpha", "alpha", "beta"]),
        (FailureKind.RATE_LIMITED, ["alpha", "beta"]),
        (FailureKind.OVERLOADED, ["alpha", "beta"]),
        (FailureKind.TIMEOUT, ["alpha", "beta"]),
        (FailureKind.MALFORMED, ["alpha", "beta"]),
        (FailureKind.CREDENTIAL, ["alpha", "beta"]),
        (FailureKind.NOT_FOUND, ["alpha", "beta"]),
    ],
)
async def test_another_target_answers_when_the_first_fails(
    kind: FailureKind, calls: list[str]
) -> None:
    """A caller never learns that the first vendor was down."""
    script = Script(alpha=[fails(kind), fails(kind)], beta=["hello"])

    answer = await run(make_plan("alpha", "beta"), script, FakeClock())

    assert "hello" == answer
    assert calls == script.calls


@pytest.mark.parametrize(
    "kind", [FailureKind.REJECTED, FailureKind.CONTEXT_LENGTH, FailureKind.CONTENT_FILTER]
)
async def test_a_refused_request_goes_nowhere_else(kind: FailureKind) -> None:
    """What is wrong with the request is wrong everywhere."""
    script = Script(alpha=[fails(kind)], beta=["never"])

    with pytest.raises(ChainFailed) as caught:
        await run(make_plan("alpha", "beta"), script, FakeClock())

    assert ["alpha"] == script.calls
    assert kind is caught.value.error.kind if caught.value.error else False


@pytest.mark.behaviour(135)
async def test_a_kind_of_failure_may_have_a_route_of_its_own() -> None:
    """A prompt that is too long goes to the long-context route, past the other targets."""
    plan = make_plan("alpha", "beta", redirects={FailureKind.CONTEXT_LENGTH: ("long",)})
    script = Script(alpha=[fails(FailureKind.CONTEXT_LENGTH)], long=["fits"])

    assert "fits" == await run(plan, script, FakeClock())
    assert ["alpha", "long"] == script.calls


async def test_a_chain_that_begins_in_a_redirect_goes_on_within_it() -> None:
    """As it would have, had it been redirected itself: the next one may be longer still."""
    plan = msgspec.structs.replace(
        make_plan("long", "longer"), redirected=FailureKind.CONTEXT_LENGTH
    )
    script = Script(long=[fails(FailureKind.CONTEXT_LENGTH)], longer=["fits"])

    assert "fits" == await run(plan, script, FakeClock())


async def test_the_only_target_is_asked_again_after_its_hint() -> None:
    """Retry-After is honoured, with a tenth of jitter on top."""
    clock = FakeClock()
    script = Script(alpha=[fails(FailureKind.RATE_LIMITED, retry_after_s=2.0), "hello"])

    await run(make_plan("alpha"), script, clock)

    assert [2.0 * 1.05] == clock.slept


@pytest.mark.behaviour(132)
async def test_a_hint_beyond_the_patience_is_passed_on() -> None:
    """Nobody is held for a minute: the caller gets the smallest hint and decides."""
    clock = FakeClock()
    script = Script(alpha=[fails(FailureKind.RATE_LIMITED, retry_after_s=60.0)])

    with pytest.raises(ChainFailed) as caught:
        await run(make_plan("alpha"), script, clock)

    assert ("rate_limit_exceeded", 60.0) == (caught.value.code, caught.value.retry_after_s)
    assert [] == clock.slept


@pytest.mark.parametrize(
    ("first", "second", "code"),
    [
        (FailureKind.TIMEOUT, FailureKind.TIMEOUT, "upstream_timeout"),
        (FailureKind.CREDENTIAL, FailureKind.CREDENTIAL, "upstream_credential"),
        (FailureKind.MALFORMED, FailureKind.MALFORMED, "upstream_malformed"),
        (FailureKind.TIMEOUT, FailureKind.MALFORMED, "all_targets_failed"),
        (FailureKind.TIMEOUT, FailureKind.REJECTED, "invalid_request"),
    ],
)
async def test_failures_of_one_kind_are_told_as_that_kind(
    first: FailureKind, second: FailureKind, code: str
) -> None:
    """Mixed failures are `all_targets_failed`, unless the last explains them."""
    script = Script(alpha=[fails(first)], beta=[fails(second)])

    with pytest.raises(ChainFailed) as caught:
        await run(make_plan("alpha", "beta"), script, FakeClock())

    assert code == caught.value.code
    assert ["alpha", "beta"] == [attempt.provider for attempt in caught.value.attempts]


async def test_nothing_is_called_once_the_time_is_over() -> None:
    """No attempt is started that could only time out."""
    script = Script(alpha=["never"])

    with pytest.raises(ChainFailed, match="No time"):
        await run(make_plan("alpha"), script, FakeClock(), total_s=0.01)

    assert [] == script.calls


@pytest.mark.behaviour(142)
async def test_a_chain_makes_six_calls_at_most() -> None:
    """However long the plan is."""
    names = [f"p{number}" for number in range(9)]
    script = Script(**{name: [fails(FailureKind.TIMEOUT)] for name in names})

    with pytest.raises(ChainFailed):
        await run(make_plan(*names), script, FakeClock())

    assert names[:MAX_CHAIN_ATTEMPTS] == script.calls


class Stingy:
    """An allowance that says no, for all targets or for those of one name."""

    def __init__(self, *, again: bool = True, not_to: str | None = None) -> None:
        self._again = again
        self._not_to = not_to

    def again(self, _step: Step) -> bool:
        return self._again

    def onward(self, step: Step) -> bool:
        return step.target.provider != self._not_to


async def run_within(allowance: Stingy, plan: Plan, script: Script, clock: FakeClock) -> str:
    return await run_chain(
        plan,
        script,
        clock=clock,
        deadline=Deadline.after(600.0, clock),
        draw=lambda: 0.5,
        allowance=allowance,
    )


async def test_without_allowance_the_same_target_is_not_asked_again() -> None:
    """Its load is not multiplied, and another target answers all the same."""
    clock = FakeClock()
    script = Script(alpha=[fails(FailureKind.SERVER_ERROR)], beta=["hello"])

    assert "hello" == await run_within(
        Stingy(again=False), make_plan("alpha", "beta"), script, clock
    )
    assert (["alpha", "beta"], []) == (script.calls, clock.slept)


async def test_without_allowance_a_target_is_passed_over() -> None:
    """One that fails itself, say; those behind it are not."""
    script = Script(alpha=[fails(FailureKind.TIMEOUT)], beta=["never"], gamma=["hello"])

    assert "hello" == await run_within(
        Stingy(not_to="beta"), make_plan("alpha", "beta", "gamma"), script, FakeClock()
    )
    assert ["alpha", "gamma"] == script.calls


async def test_the_first_call_needs_no_allowance() -> None:
    """However many calls there were before: every request is asked once."""
    script = Script(alpha=["hello"])

    assert "hello" == await run_within(
        Stingy(not_to="alpha"), make_plan("alpha"), script, FakeClock()
    )


async def test_a_target_that_says_so_is_not_asked_again() -> None:
    """`x-should-retry: false`, or a certificate that is not to be trusted."""
    refusal = UpstreamError(FailureKind.SERVER_ERROR, "no", again=False)
    script = Script(alpha=[refusal], beta=["hello"])

    assert "hello" == await run(make_plan("alpha", "beta"), script, FakeClock())
    assert ["alpha", "beta"] == script.calls


@pytest.mark.behaviour(135)
async def test_a_kind_of_failure_may_fall_back_nowhere() -> None:
    """An empty list in the config: not to the other targets of the route either."""
    plan = make_plan("alpha", "beta", redirects={FailureKind.OVERLOADED: ()})
    script = Script(alpha=[fails(FailureKind.OVERLOADED)], beta=["never"])

    with pytest.raises(ChainFailed) as caught:
        await run(plan, script, FakeClock())

    assert ("overloaded", ["alpha"]) == (caught.value.code, script.calls)


@pytest.mark.behaviour(135)
async def test_what_is_too_long_for_one_may_fit_the_next() -> None:
    """All the routes that are named for a kind of failure are tried for it."""
    redirects = {FailureKind.CONTEXT_LENGTH: ("long", "longer")}
    plan = make_plan("alpha", "beta", redirects=redirects)
    too_long = fails(FailureKind.CONTEXT_LENGTH)
    script = Script(alpha=[too_long], long=[too_long], longer=["fits"])

    assert "fits" == await run(plan, script, FakeClock())
    assert ["alpha", "long", "longer"] == script.calls


async def test_a_redirect_is_followed_once() -> None:
    """A prompt that is too long for the last, too, is refused as too long; others end it anyway."""
    redirects = {
        FailureKind.CONTEXT_LENGTH: ("long", "longer"),
        FailureKind.CONTENT_FILTER: ("lax",),
    }
    too_long, filtered = fails(FailureKind.CONTEXT_LENGTH), fails(FailureKind.CONTENT_FILTER)
    for second, code in ((too_long, "context_length_exceeded"), (filtered, "content_filter")):
        script = Script(alpha=[too_long], long=[second], longer=[too_long], lax=["never"])

        with pytest.raises(ChainFailed) as caught:
            await run(make_plan("alpha", redirects=redirects), script, FakeClock())

        assert code == caught.value.code
        assert "lax" not in script.calls


@given(
    tries=st.integers(1, 20),
    hint_s=st.none() | st.floats(0, 300),
    draw=st.floats(0, 1, exclude_max=True),
)
def test_a_wait_is_never_below_the_hint_nor_above_the_ceiling(
    tries: int, hint_s: float | None, draw: float
) -> None:
    """Full jitter stays below max_s; a larger hint gets at most a tenth more."""
    wait_s = backoff_s(tries, Retry(), hint_s, lambda: draw)

    assert wait_s >= (hint_s or 0.0)
    assert wait_s <= max(Retry().max_s, (hint_s or 0.0) * 1.1)


@given(
    kind=st.sampled_from(KINDS),
    tries=st.integers(1, 9),
    left_s=st.floats(0, 100),
    alternatives=st.booleans(),
    draw=st.floats(0, 1, exclude_max=True),
)
def test_a_retry_always_fits_the_rules(
    kind: FailureKind,
    tries: int,
    left_s: float,
    alternatives: bool,  # noqa: FBT001 (drawn)
    draw: float,
) -> None:
    """A target is asked again only below its maximum and with time left for the wait."""
    step = next_step(
        fails(kind),
        tries=tries,
        retry=Retry(),
        alternatives=alternatives,
        time_left_s=left_s,
        draw=lambda: draw,
    )

    if step.remedy is Remedy.RETRY:
        assert tries < Retry().max_attempts
        assert step.wait_s < left_s
