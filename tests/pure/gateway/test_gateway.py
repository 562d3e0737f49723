"""Targets that cannot be asked, prices of wildcards, and what callers' inventions may cost."""

import json
from datetime import UTC, datetime
from itertools import count

import pytest

from shared.clock import Deadline
from shared.config.kinds import KindNeeds
from shared.config.load import load_config
from shared.config.price import Price, PriceTerms
from shared.errors import (
    BudgetExceeded,
    ChainFailed,
    OwnFault,
    PermissionDenied,
    RateLimitExceeded,
    UnsupportedParameter,
)
from shared.gateway.admission import Admission
from shared.gateway.answer import CallContext
from shared.gateway.catalog import PRICES_KEPT, Catalog
from shared.gateway.parse import parse_request
from shared.gateway.runner import Kit
from shared.gateway.service import Gateway
from shared.health.book import HealthBook
from shared.identity import Principal
from shared.ledger.books import Charge, Opening
from shared.ledger.envelopes import Enclosure
from shared.ledger.holds import Hold
from shared.limits.local import LocalLimiter
from shared.limits.scopes import ScopeBook
from shared.providers.mock import MockTransport
from shared.routing.position import Position, Tried
from shared.store.records import BudgetRef
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
- {model: dear, price: {input_per_mtok: 1, output_per_mtok: 1}, limits: {rpm: 2, concurrency: 1},
   targets: [{provider: mock, model: e}]}
- {model: free, targets: [{provider: mock, model: e}]}
- {model: refused, targets: [{provider: chat_only, model: e}, {provider: down, model: e}]}
"""
REF = BudgetRef(budget_id="tenant:t/day", starts_at=datetime(2026, 3, 1, tzinfo=UTC))
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


class Purse:
    """Holds in memory: no more than `room` at once, None for no budget at all."""

    def __init__(self) -> None:
        self.room: int | None = None
        self.asked: list[int | None] = []

    async def hold(self, principal, amount_nanousd, *, deadline, asked):
        if self.room is None:
            return None
        self.asked.append(amount_nanousd)
        if (amount_nanousd or 0) > self.room:
            raise BudgetExceeded("spent", limit_source="tenant:t/day", resets_at=0)
        return Hold(Enclosure(refs=(REF,), rejects=True), "process-1", amount_nanousd or 0)


class Gate:
    """A gateway on the mock, and what it writes."""

    def __init__(self, text: str = CONFIG) -> None:
        numbers = count(1)
        clock = FakeClock()
        self.books = Kept()
        self.holds = Purse()
        self.clock = clock
        config = load_config(text, {}, KINDS).config
        self.catalog = Catalog(config, clock.now())
        self.limiter = LocalLimiter(clock)

        def ids(prefix: str) -> str:
            return f"{prefix}_{next(numbers)}"

        self.gateway = Gateway(
            Kit(
                catalog=self.catalog,
                transport=MockTransport(clock),
                clock=clock,
                ids=ids,
                admission=Admission(self.limiter, ScopeBook(config), clock, ids),
                health=HealthBook(clock),
            ),
            lambda: 0.0,
        )

    async def embed(self, model: str, position: Position | None = None):
        body = json.dumps({"model": model, "input": "hello"}).encode()
        return await self.gateway.complete(
            Principal(tenant_id="t", key_id="k", key_name="n"),
            parse_request("/v1/embeddings", body),
            deadline=Deadline.after(60, self.clock),
            books=self.books,
            holds=self.holds,
            context=CallContext(request_id="req_1", position=position),
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


async def test_a_job_goes_on_where_its_chain_had_come_to(gate):
    tried = Tried(provider="nowhere", model="e", credential="default", code="upstream_unavailable")

    await gate.embed("mended", Position(tried=(tried,)))

    assert [("mock", "succeeded")] == gate.outcomes


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

    assert ["w/*"] == list(gate.gateway._planner._turns)
    for number in range(PRICES_KEPT + 100):
        step = gate.catalog.routes.find(f"w/{number}").choices[0][0]
        gate.catalog.price(step.target, step.price)
    assert PRICES_KEPT == gate.catalog._price.cache_info().currsize


def test_a_target_costs_what_its_terms_say_each_time_it_is_asked(gate):
    """A target that is known by its place in memory is still asked at the terms of the moment."""
    step = gate.catalog.routes.find("w/x").choices[0][0]
    other = PriceTerms(price=Price(input_per_mtok="1", output_per_mtok="2"))
    catalog = gate.catalog

    for _ in range(2):
        assert catalog._price("mock", "up-x", step.price) == catalog.price(step.target, step.price)
        assert catalog._price("mock", "up-x", other) == catalog.price(step.target, other)
    assert catalog.price(step.target, step.price) != catalog.price(step.target, other)


async def test_a_call_takes_its_routes_limits_and_tells_what_is_left(gate):
    answer = await gate.embed("dear")

    assert (2, 1) == (answer.standing.limit_requests, answer.standing.remaining_requests)
    await gate.embed("dear")  # its only slot is free again
    with pytest.raises(RateLimitExceeded) as caught:
        await gate.embed("dear")

    assert 0 == caught.value.standing.remaining_requests
    assert 2 == len(gate.books.openings)  # nothing was called


async def test_what_a_budget_refuses_takes_nothing_from_the_limits(gate):
    gate.holds.room = 0
    for _ in range(3):
        with pytest.raises(BudgetExceeded):
            await gate.embed("dear")

    gate.holds.room = 10**9
    await gate.embed("dear")
    assert [] != gate.books.openings


async def test_an_attempt_names_the_budgets_it_is_settled_in(gate):
    gate.holds.room = 10**9
    await gate.embed("dear")

    [opening] = gate.books.openings
    assert ((REF,), "process-1") == (opening.budgets, opening.grant)
    assert [opening.estimate_nanousd] == gate.holds.asked


async def test_an_opening_says_each_thing_of_the_call_in_its_place(gate):
    gate.holds.room = 10**9
    body = json.dumps({"model": "w/x", "input": "hello"}).encode()
    await gate.gateway.complete(
        Principal(tenant_id="t", key_id="k", key_name="n"),
        parse_request("/v1/embeddings", body),
        deadline=Deadline.after(60, gate.clock),
        books=gate.books,
        holds=gate.holds,
        context=CallContext(
            request_id="req_1", job_id="job_1", batch_id="batch_1", user="ann", tags={"a": "b"}
        ),
    )

    [opening] = gate.books.openings
    expected = Opening(
        attempt_id="att_1",
        request_id="req_1",
        job_id="job_1",
        batch_id="batch_1",
        number=1,
        tenant_id="t",
        key_id="k",
        user="ann",
        tags={"a": "b"},
        endpoint="/v1/embeddings",
        route="w/x",
        provider="mock",
        model="up-x",
        credential="default",
        stream=False,
        started_at=gate.clock.now(),
        estimate_nanousd=gate.holds.asked[0],
        estimate_usage=opening.estimate_usage,
        price_source="config",
        price_version=opening.price_version,
        budgets=(REF,),
        grant="process-1",
    )
    assert expected == opening
    assert opening.estimate_usage.estimated
    assert opening.price_version not in {None, "config"}


async def test_what_has_no_price_cannot_be_held_so_it_is_refused_under_a_budget(gate):
    """A wall cannot be built of unknown amounts; the message says what to do."""
    gate.holds.room = 10**9
    with pytest.raises(PermissionDenied, match="price"):
        await gate.embed("free")

    assert ["failed"] == [outcome for _, outcome in gate.outcomes]
