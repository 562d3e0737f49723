"""Targets that cannot be asked, prices of wildcards, and what callers' inventions may cost."""

import json
from itertools import count

import pytest

from shared.clock import Deadline
from shared.config.kinds import KindNeeds
from shared.config.load import load_config
from shared.errors import ChainFailed, OwnFault, UnsupportedParameter
from shared.gateway.answer import CallContext
from shared.gateway.catalog import PRICES_KEPT, Catalog
from shared.gateway.parse import parse_request
from shared.gateway.runner import Kit
from shared.gateway.service import Gateway
from shared.identity import Principal
from shared.ledger.books import Charge, Opening
from shared.providers.mock import MockTransport
from tests.fakes.clock import FakeClock

pytestmark = pytest.mark.anyio

CONFIG = """
providers:
  mock: {kind: mock}
  chat_only: {kind: groq, api_key: k}
  nowhere: {kind: openai_compatible}
  down: {kind: mock, params: {mock: {status: 400}}}
defaults: {retry: {max_attempts: 1}}
routes:
- {model: "w/*", price: {input_per_mtok: 9, output_per_mtok: 9},
   targets: [{provider: mock, model: "up-*"}]}
- {model: helped, targets: [{provider: chat_only, model: e}, {provider: mock, model: e}]}
- {model: unsupported, targets: [{provider: chat_only, model: e}]}
- {model: broken, targets: [{provider: nowhere, model: e}]}
- {model: mended, targets: [{provider: nowhere, model: e}, {provider: mock, model: e}]}
- {model: refused, targets: [{provider: chat_only, model: e}, {provider: down, model: e}]}
"""
KINDS = dict.fromkeys(("mock", "groq", "openai_compatible"), KindNeeds())
"""Without needs, so that a provider without an address gets through to the gateway."""


class Kept:
    """Books in memory."""

    def __init__(self) -> None:
        self.openings: list[Opening] = []
        self.charges: list[Charge] = []

    async def open(self, opening: Opening) -> None:
        self.openings.append(opening)

    def close(self, charge: Charge) -> None:
        self.charges.append(charge)


class Gate:
    """A gateway on the mock, and what it writes."""

    def __init__(self) -> None:
        numbers = count(1)
        clock = FakeClock()
        self.catalog = Catalog(load_config(CONFIG, {}, KINDS).config, clock.now())
        self.books = Kept()
        self.clock = clock
        self.gateway = Gateway(
            Kit(
                catalog=self.catalog,
                transport=MockTransport(clock),
                clock=clock,
                ids=lambda prefix: f"{prefix}_{next(numbers)}",
            ),
            lambda: 0.0,
        )

    async def embed(self, model: str):
        body = json.dumps({"model": model, "input": "hello"}).encode()
        return await self.gateway.complete(
            Principal(tenant_id="t", key_id="k", key_name="n"),
            parse_request("/v1/embeddings", body),
            deadline=Deadline.after(60, self.clock),
            books=self.books,
            context=CallContext(request_id="req_1"),
        )

    @property
    def outcomes(self):
        return [(one.opening.provider, one.outcome.value) for one in self.books.charges]


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.mark.parametrize(("model", "first"), [("helped", "chat_only"), ("mended", "nowhere")])
async def test_a_target_that_cannot_be_asked_does_not_end_the_chain(gate, model, first):
    answer = await gate.embed(model)

    assert ("mock", [first, "mock"]) == (
        answer.provider,
        [attempt.provider for attempt in answer.attempts],
    )
    assert [(first, "failed"), ("mock", "succeeded")] == gate.outcomes
    assert 0 == gate.books.charges[0].usage.input_tokens  # nothing was sent


@pytest.mark.parametrize(
    ("model", "kind"), [("unsupported", UnsupportedParameter), ("broken", OwnFault)]
)
async def test_without_another_target_the_reason_reaches_the_caller(gate, model, kind):
    with pytest.raises(kind):
        await gate.embed(model)

    assert ["failed"] == [outcome for _, outcome in gate.outcomes]


async def test_a_target_that_was_asked_speaks_for_the_chain(gate):
    with pytest.raises(ChainFailed) as caught:
        await gate.embed("refused")

    assert "invalid_request" == caught.value.code
    assert 2 == len(caught.value.attempts)


async def test_a_wildcards_price_is_charged(gate):
    await gate.embed("w/x")

    [charge] = gate.books.charges
    assert ("up-x", "config") == (charge.opening.model, charge.opening.price_source)
    assert 9_000 * charge.usage.input_tokens == charge.cost_nanousd


async def test_invented_names_leave_nothing_behind(gate):
    for number in range(20):
        await gate.embed(f"w/{number}")

    assert ["w/*"] == list(gate.gateway._turns)
    for number in range(PRICES_KEPT + 100):
        step = gate.catalog.routes.find(f"w/{number}").choices[0][0]
        gate.catalog.price(step.target, step.price)
    assert PRICES_KEPT == gate.catalog._price.cache_info().currsize
