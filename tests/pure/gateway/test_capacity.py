"""Which models stand still: what a worker leaves where it is."""

import pytest

from shared.errors import GatewayError
from tests.pure.gateway.test_gateway import Gate

pytestmark = pytest.mark.anyio

CONFIG = """
providers:
  up: {kind: mock}
  down: {kind: mock, params: {mock: {status: 500}}}
  busy: {kind: mock, params: {mock: {status: 429, retry_after_s: 20}}}
defaults: {retry: {max_attempts: 1}, breaker: {failures: 1, open_s: 15}}
routes:
- {model: well, targets: [{provider: up, model: e}]}
- {model: broken, aliases: [b1], targets: [{provider: down, model: e}]}
- {model: helped, targets: [{provider: down, model: e}], fallbacks: [well]}
- {model: turned, targets: [{provider: down, model: e}], on_failure: {server_error: [well]}}
- {model: limited, targets: [{provider: busy, model: e}]}
- {model: ruled, targets: [{provider: down, model: e}],
   rules: [{when: {tags: {a: b}}, route: well}]}
- {model: lost, targets: [{provider: down, model: e}],
   rules: [{when: {tags: {a: b}}, route: b1}]}
- {model: full, targets: [{provider: up, model: f, limits: {rpm: 1}}]}
- {model: narrow, limits: {rpm: 1}, targets: [{provider: up, model: n}]}
- {model: roomy, targets: [{provider: up, model: f, limits: {rpm: 1}}, {provider: up, model: e}]}
"""


@pytest.fixture
def gate() -> Gate:
    return Gate(CONFIG)


async def refused(gate: Gate, model: str) -> None:
    with pytest.raises(GatewayError):
        await gate.embed(model)


async def test_nothing_stands_still_at_first(gate):
    assert frozenset() == gate.gateway.standing_still()


async def test_a_model_without_a_target_stands_still_until_its_breaker_may_be_tried(gate):
    """By its aliases too. One with a fallback, a redirect or a rule that helps goes on."""
    await refused(gate, "broken")

    assert {"broken", "b1", "lost"} == gate.gateway.standing_still()
    gate.clock.advance(15)
    assert frozenset() == gate.gateway.standing_still()


async def test_a_limited_provider_is_left_alone_as_long_as_it_said(gate):
    await refused(gate, "limited")

    gate.clock.advance(19)
    assert {"limited"} == gate.gateway.standing_still()
    gate.clock.advance(2)
    assert frozenset() == gate.gateway.standing_still()


@pytest.mark.parametrize("model", ["full", "narrow"])
async def test_a_full_target_or_route_is_left_alone_until_it_has_room(gate, model):
    await gate.embed(model)
    await refused(gate, model)

    assert {model} == gate.gateway.standing_still()
    gate.clock.advance(60)
    assert frozenset() == gate.gateway.standing_still()
