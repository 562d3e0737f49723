"""Where a chain goes on that runs again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.config.model import Retry, Timeouts
from shared.errors import FailureKind
from shared.providers.target import Target
from shared.routing.order import Calm
from shared.routing.plan import Plan, Step
from shared.routing.position import Position, Tried, after_run, resumed

NAMES = ("a", "b", "c", "d")


class Unfit(Calm):
    """Some targets are not fit."""

    def __init__(self, *providers: str) -> None:
        self._providers = providers

    def is_fit(self, target: Target) -> bool:
        return target.provider not in self._providers


def steps(*providers: str) -> tuple[Step, ...]:
    return tuple(
        Step(
            route="m",
            target=Target(provider=provider, model="up", credential="default"),
            retry=Retry(),
            timeouts=Timeouts(),
        )
        for provider in providers
    )


def make_plan(*providers: str, **redirects: tuple[Step, ...]) -> Plan:
    known = {FailureKind(kind): those for kind, those in redirects.items()}
    return Plan(route="m", configured="m", steps=steps(*providers), redirects=known)


def tried(provider: str, code: str | None = "upstream_timeout", credential="default") -> Tried:
    return Tried(provider=provider, model="up", credential=credential, code=code)


def order(plan: Plan, *those: Tried, unfit: tuple[str, ...] = ()) -> list[str]:
    after = resumed(plan, Position(tried=those), Unfit(*unfit))
    return [step.target.provider for step in after.steps]


@pytest.mark.parametrize(
    ("those", "expected"),
    [
        ((tried("a"),), "bcda"),
        ((tried("a"), tried("b")), "cdab"),
        ((tried("a"), tried("b", None)), "bcda"),  # its worker died during the call of b
        ((tried("a"), tried("b"), tried("c"), tried("d")), "abcd"),
        ((tried("a", credential="other"),), "abcd"),
        ((tried("gone"),), "abcd"),
    ],
)
def test_what_has_failed_comes_last(those, expected):
    assert list(expected) == order(make_plan(*NAMES), *those)


def test_what_is_not_fit_stays_behind_what_has_failed():
    """A target that was slow once is better than one whose breaker is open."""
    assert ["a", "c", "b", "d"] == order(
        make_plan("a", "c", "b", "d"), tried("c"), unfit=("b", "d")
    )


@pytest.mark.parametrize("kind", [FailureKind.CONTEXT_LENGTH, FailureKind.CONTENT_FILTER])
def test_a_redirect_for_good_is_followed_at_once(kind):
    """The question is as long as it was: its own targets need not say so again."""
    code = {"context_length": "context_length_exceeded"}.get(kind.value, kind.value)
    plan = make_plan("a", "b", **{kind.value: steps("long", "longer")})

    after = resumed(plan, Position(tried=(tried("a", code), tried("long"))), Calm())

    assert ["longer", "long"] == [step.target.provider for step in after.steps]
    assert (kind, {}) == (after.redirected, after.redirects)


def test_a_redirect_that_passes_is_not():
    plan = make_plan("a", "b", rate_limited=steps("other"))

    assert ["b", "a"] == order(plan, tried("a", "rate_limit_exceeded"))


def test_only_what_failed_for_good_is_known_after_another_run():
    before = Position(tried=(tried("a", "context_length_exceeded"), tried("b")))

    after = after_run(before, (tried("long", "overloaded"),))

    assert Position(tried=(before.tried[0], tried("long", "overloaded"))) == after
    assert None is after_run(None, ())
    assert Position(tried=(before.tried[0],)) == after_run(before, ())


@given(
    st.permutations(NAMES),
    st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(["overloaded", None]))),
    st.sets(st.sampled_from(NAMES)),
)
def test_a_resumed_plan_has_the_same_targets(names, those, unfit):
    """Nothing is given up: every target is still tried in the end."""
    found = order(make_plan(*names), *(tried(*one) for one in those), unfit=tuple(unfit))

    assert set(names) == set(found)
    assert len(names) == len(found)
