"""Targets that nobody asks are asked for a token now and then, where the config says so."""

import pytest

from shared.gateway.probes import PROBER, Prober
from shared.health.breaker import Phase
from tests.pure.gateway.test_gateway import Gate

pytestmark = pytest.mark.anyio


def gate(options: str = "{}", rules: str = "probe_s: 60") -> Gate:
    """A gateway whose route has one target of these options, beside one that is never probed."""
    return Gate(
        "providers: {mock: {kind: mock}}\n"
        "defaults: {retry: {max_attempts: 1}, price: {input_per_mtok: 1, output_per_mtok: 1}}\n"
        "routes:\n"
        f"- {{model: m, breaker: {{{rules}}}, fallbacks: [other],\n"
        f"   targets: [{{provider: mock, model: x, params: {{mock: {options}}}}}]}}\n"
        "- {model: other, targets: [{provider: mock, model: y}]}\n"
    )


def prober(gate: Gate) -> Prober:
    gate.clock.advance(1_000.0)
    return Prober(gate.gateway.kit, gate.books, lambda: 0.0)


async def looks(gate: Gate, prober: Prober, times: int, every_s: float) -> int:
    """Look so many times and return how many probes that made."""
    before = len(gate.books.charges)
    for _ in range(times):
        gate.clock.advance(every_s)
        await prober.look()
    return len(gate.books.charges) - before


def phase(gate: Gate) -> Phase:
    (seen,) = gate.gateway.kit.health.seen()
    return seen.phase


async def test_a_target_that_nobody_asks_is_asked_for_a_token():
    """In the books it is a call like any other, of nobody's."""
    asked = gate()

    assert 2 == await looks(asked, prober(asked), times=13, every_s=10.0)
    charge = asked.books.charges[0]
    assert (PROBER.tenant_id, "x", 1) == (
        charge.opening.tenant_id,
        charge.opening.model,
        charge.usage.output_tokens,
    )
    assert charge.cost_nanousd


async def test_a_target_that_is_asked_anyway_is_not_probed():
    asked = gate()
    probes = prober(asked)
    for _ in range(9):
        asked.clock.advance(30.0)
        await asked.embed("m")
        assert 0 == await looks(asked, probes, times=1, every_s=0.0)


async def test_without_the_rule_nobody_is_asked():
    """And nothing runs for it."""
    asked = gate(rules="failures: 5")
    probes = prober(asked)

    await probes.run()
    assert 0 == await looks(asked, probes, times=9, every_s=100.0)


async def test_a_probe_finds_out_that_a_target_is_down_and_that_it_is_back():
    """Before any caller does."""
    asked = gate("{status: 500, times: 2}", "probe_s: 10, failures: 2, open_s: 15")
    probes = prober(asked)

    assert 2 == await looks(asked, probes, times=2, every_s=10.0)
    assert Phase.OPEN is phase(asked)
    assert 0 == await looks(asked, probes, times=1, every_s=10.0), "it is left alone"
    assert 1 == await looks(asked, probes, times=1, every_s=10.0)
    assert Phase.CLOSED is phase(asked)


@pytest.mark.parametrize(("options", "probes"), [("{status: 429, retry_after_s: 100}", 1),
                                                 ("{status: 401}", 9)])  # fmt: skip
async def test_a_limited_target_is_let_be(options: str, probes: int):
    """A refused credential is tried on, for that is how one learns that it was mended."""
    asked = gate(options, "probe_s: 10, failures: 100")

    assert probes == await looks(asked, prober(asked), times=9, every_s=10.0)
