"""Targets that asked to be left alone go last, and an outage is not multiplied."""

from contextlib import suppress

import pytest

from shared.errors import ChainFailed
from tests.pure.gateway.test_gateway import Gate

pytestmark = pytest.mark.anyio


def gate(rules: str, *first: str) -> Gate:
    """A gateway whose route `m` asks these mocks first, by their options, and a good one last."""
    targets = [
        f"{{provider: mock, model: bad-{number}, params: {{mock: {options}}}}}"
        for number, options in enumerate(first)
    ]
    return Gate(
        "providers: {mock: {kind: mock}}\n"
        f"defaults: {{{rules}}}\n"
        "routes:\n"
        f"- {{model: m, targets: [{', '.join(targets)}, {{provider: mock, model: good}}]}}\n"
        f"- {{model: bad, targets: [{', '.join(targets)}]}}\n"
    )


async def asked(gate: Gate, model: str = "m") -> list[str]:
    """Return who was asked in one call, by the name of the model."""
    before = len(gate.books.charges)
    with suppress(ChainFailed):
        await gate.embed(model)
    return [charge.opening.model for charge in gate.books.charges[before:]]


async def test_a_limited_target_goes_last_until_the_time_it_named():
    limited = gate("retry: {max_attempts: 1}", "{status: 429, retry_after_s: 30}")

    assert ["bad-0", "good"] == await asked(limited)
    assert ["good"] == await asked(limited)
    limited.clock.advance(29.9)
    assert ["good"] == await asked(limited)
    limited.clock.advance(0.1)
    assert ["bad-0", "good"] == await asked(limited)


@pytest.mark.behaviour(134)
@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_credential_goes_last_for_a_minute(status):
    refused = gate("retry: {max_attempts: 1}", f"{{status: {status}}}")

    assert ["bad-0", "good"] == await asked(refused)
    assert ["good"] == await asked(refused)
    refused.clock.advance(60.0)
    assert ["bad-0", "good"] == await asked(refused)


async def test_the_only_target_is_asked_whatever_it_said():
    """It may have been mistaken; and a credential that works is no longer parked."""
    refused = gate("retry: {max_attempts: 1}", "{status: 401, times: 1}")

    assert ["bad-0"] == await asked(refused, "bad")
    assert ["bad-0"] == await asked(refused, "bad")
    assert ["bad-0"] == await asked(refused)  # it went well


async def test_an_outage_is_not_multiplied():
    """A fifth more calls than requests, and three a second; whatever each might try again."""
    down = gate("retry: {max_attempts: 3, base_s: 0}", "{status: 500}", "{reset: true}")
    await asked(down, "bad")
    down.books.charges.clear()
    for _ in range(500):
        await asked(down, "bad")

    assert down.clock.elapsed_s < 1.0
    assert 500 <= len(down.books.charges) <= 500 * 1.2 + 30 + 5


async def test_who_is_fit_is_asked_whatever_else_fails():
    """To go on to another target multiplies nothing, so no share is too small for it."""
    rules = "retry: {max_attempts: 1, share: 0}, breaker: {failures: 1000, window_s: 0.001}"
    lame = gate(rules, "{status: 500}")
    for _ in range(100):
        lame.clock.advance(0.01)  # its breaker forgets at once
        assert ["bad-0", "good"] == await asked(lame)


async def test_a_route_may_do_without_breakers():
    """Its failing target is asked like any other, and what it says of the time to come is lost."""
    plain = gate("retry: {max_attempts: 1}, breaker: {enabled: false}", "{status: 401}")
    for _ in range(10):
        assert ["bad-0", "good"] == await asked(plain)
