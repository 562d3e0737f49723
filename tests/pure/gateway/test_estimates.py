"""What a call can cost at most, over all the targets that it may go to."""

import json

import pytest

from shared.gateway.admission import Estimates
from shared.gateway.answer import CallContext
from shared.gateway.parse import parse_request
from shared.gateway.planning import Planner
from shared.routing.plan import build_plan
from tests.pure.gateway.test_gateway import Gate

CONFIG = """
providers: {near: {kind: mock}, far: {kind: mock}}
routes:
- {model: alike, price: {input_per_mtok: 1, output_per_mtok: 2}, targets:
   [{provider: near, model: a}, {provider: far, model: b}, {provider: far, model: c}]}
- {model: dear, targets: [
   {provider: near, model: a, price: {input_per_mtok: 1, output_per_mtok: 2}},
   {provider: far, model: b, price: {input_per_mtok: 9, output_per_mtok: 2}},
   {provider: far, model: c, price: {input_per_mtok: 1, output_per_mtok: 2}}]}
- {model: free, targets: [{provider: near, model: x}, {provider: far, model: y}]}
- {model: back, price: {input_per_mtok: 1, output_per_mtok: 2}, fallbacks: [longer],
   targets: [{provider: near, model: a}]}
- {model: led, price: {input_per_mtok: 1, output_per_mtok: 2},
   targets: [{provider: near, model: a}], on_failure: {context_length: [longer]}}
- {model: longer, price: {input_per_mtok: 1, output_per_mtok: 2}, hold_output_tokens: 9000,
   targets: [{provider: far, model: a}]}
"""


@pytest.mark.parametrize(
    ("model", "differing"),
    [("alike", 1), ("dear", 2), ("free", 1), ("back", 2), ("led", 2)],
)
def test_targets_of_one_price_stand_for_each_other(model, differing):
    """The dearest costs as much among those that differ as among all."""
    gate = Gate(CONFIG)
    catalog = gate.gateway.kit.catalog
    body = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
    request = parse_request("/v1/chat/completions", json.dumps(body).encode())
    route = catalog.routes.find(model)
    plan = build_plan(route, catalog.routes.find, lambda: 0.5)

    for _ in range(2):
        estimates, whole = Estimates(request, catalog), Estimates(request, catalog)
        steps = estimates.differing(plan)

        every = [*plan.steps, *(step for steps in plan.redirects.values() for step in steps)]
        assert differing == len(steps)
        assert whole.most_tokens(every) == estimates.most_tokens(steps)
        assert whole.most_nanousd(every) == estimates.most_nanousd(steps)


PARAMS = """
providers: {near: {kind: mock}, far: {kind: mock, params: {max_tokens: 700, n: 2}}}
defaults: {price: {input_per_mtok: 0, output_per_mtok: 1}}
routes:
- {model: none, targets: [{provider: near, model: a}]}
- {model: older, targets: [{provider: near, model: a, params: {max_tokens: 30000}}]}
- {model: newer, targets: [{provider: near, model: a, params: {max_completion_tokens: 30000}}]}
- {model: newest, targets: [{provider: near, model: a, params: {max_output_tokens: 30000}}]}
- {model: small, targets: [{provider: near, model: a, params: {max_tokens: 50}}]}
- {model: many, targets: [{provider: near, model: a, params: {n: 3, best_of: 5}}]}
- {model: odd, targets: [{provider: near, model: a, params: {max_tokens: many, n: true}}]}
- {model: endless, targets: [{provider: near, model: a, params: {max_tokens: -1}}]}
- {model: far, targets: [{provider: far, model: a}]}
- {model: grouped, targets: [{provider: near, model: a,
   params: {generationConfig: {maxOutputTokens: 30000}}}]}
- {model: snakes, targets: [{provider: near, model: a,
   params: {generation_config: {max_output_tokens: 30000}}}]}
- {model: inferred, targets: [{provider: near, model: a,
   params: {inferenceConfig: {maxTokens: 30000}}}]}
- {model: predicted, targets: [{provider: near, model: a, params: {num_predict: 30000}}]}
- {model: optional, targets: [{provider: near, model: a,
   params: {options: {num_predict: 30000}}}]}
- {model: without, targets: [{provider: near, model: a, params: {options: {num_predict: -1}}}]}
- {model: strange, targets: [{provider: near, model: a, params: {options: 3,
   generationConfig: [], inferenceConfig: {maxTokens: many}}}]}
- {model: both, targets: [{provider: far, model: a, params: {max_tokens: 900}}]}
- {model: mixed, strategy: priority, targets: [{provider: near, model: a},
   {provider: near, model: b}, {provider: near, model: c, params: {max_tokens: 30000}}]}
- {model: cheap, strategy: least_cost, targets: [
   {provider: near, model: a, params: {max_tokens: 30000}}, {provider: near, model: b}]}
"""
CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
COMPLETIONS, RESPONSES = "/v1/completions", "/v1/responses"
QUESTION = {
    CHAT: {"messages": [{"role": "user", "content": 'say "max_tokens"'}]},
    MESSAGES: {"messages": [{"role": "user", "content": "hello"}]},
    COMPLETIONS: {"prompt": "hello"},
    RESPONSES: {"input": "hello"},
}


def planned(model, endpoint=CHAT, text=PARAMS, **fields):
    """Return the estimates of a call, and its plan."""
    gate = Gate(text)
    raw = json.dumps({"model": model, **QUESTION[endpoint], **fields}).encode()
    request = parse_request(endpoint, raw)
    kit = gate.gateway.kit
    route = kit.catalog.routes.find(model)
    context = CallContext(request_id="req_1")
    plan = Planner(lambda: 0.5).plan(kit.catalog, kit.health, route, request, context)
    return Estimates(request, kit.catalog), plan


@pytest.mark.parametrize(
    ("model", "endpoint", "fields", "output"),
    [
        ("none", CHAT, {}, 4096),
        ("older", CHAT, {}, 30_000),
        ("older", CHAT, {"max_tokens": 10}, 10),
        ("older", CHAT, {"max_completion_tokens": 10}, 30_000),  # both are sent
        ("older", MESSAGES, {"max_tokens": 10}, 10),
        ("older", COMPLETIONS, {}, 30_000),
        ("older", RESPONSES, {}, 30_000),
        ("older", RESPONSES, {"max_output_tokens": 10}, 10),
        ("older", RESPONSES, {"max_tokens": 10}, 30_000),
        ("newer", CHAT, {}, 30_000),
        ("newer", MESSAGES, {}, 30_000),
        ("newer", RESPONSES, {}, 30_000),
        ("newest", RESPONSES, {}, 30_000),
        ("newest", CHAT, {}, 4096),
        ("small", CHAT, {}, 50),
        ("small", CHAT, {"max_tokens": None}, 4096),  # which a relay sends on
        ("older", CHAT, {"max_tokens": None}, 30_000),
        ("many", CHAT, {"max_tokens": 10}, 30),
        ("many", CHAT, {"max_tokens": 10, "n": 1}, 10),
        ("many", COMPLETIONS, {"max_tokens": 10}, 50),
        ("odd", CHAT, {}, 4096),
        ("endless", CHAT, {}, 4096),
        ("far", CHAT, {}, 1400),
        ("both", CHAT, {}, 1800),
        ("grouped", CHAT, {}, 30_000),
        ("grouped", CHAT, {"max_tokens": 10}, 10),
        ("grouped", CHAT, {"max_completion_tokens": 10}, 10),
        ("grouped", MESSAGES, {}, 30_000),
        ("grouped", RESPONSES, {"max_output_tokens": 10}, 10),
        ("snakes", CHAT, {}, 30_000),
        ("inferred", RESPONSES, {}, 30_000),
        ("predicted", COMPLETIONS, {}, 30_000),
        ("optional", CHAT, {}, 30_000),
        ("without", CHAT, {}, 4096),
        ("strange", CHAT, {}, 4096),
    ],
)
def test_what_the_operator_adds_is_held(model, endpoint, fields, output):
    """It fills in what the caller leaves out, as in what is sent."""
    estimates, plan = planned(model, endpoint, **fields)

    assert output == estimates.at(plan.steps[0]).usage.output_tokens
    assert output * 1_000 == estimates.most_nanousd(estimates.differing(plan))


def test_a_target_with_fields_of_its_own_is_estimated_for_itself():
    estimates, plan = planned("mixed")

    assert 2 == len(estimates.differing(plan))
    assert 30_000_000 == estimates.most_nanousd(estimates.differing(plan))
    assert 4096 == estimates.at(plan.steps[0]).usage.output_tokens


def test_the_cheapest_target_is_found_with_what_the_operator_adds():
    _, plan = planned("cheap")

    assert ["b", "a"] == [step.target.model for step in plan.steps]


TIERS = """
providers: {near: {kind: mock}}
defaults: {price: {input_per_mtok: 0, output_per_mtok: 1, tiers: [
  {name: flex, factor: 0.5}, {name: priority, factor: 3}, {name: fast, factor: 6}]}}
routes:
- {model: plain, targets: [{provider: near, model: a}]}
- {model: dear, targets: [{provider: near, model: a, params: {service_tier: priority}}]}
- {model: quick, targets: [{provider: near, model: a, params: {speed: fast}}]}
- {model: odd, targets: [{provider: near, model: a, params: {service_tier: 3, speed: 1}}]}
- {model: one, targets: [{provider: near, model: a}],
   price: {input_per_mtok: 0, output_per_mtok: 1, tiers: []}}
"""


@pytest.mark.parametrize(
    ("model", "fields", "factor"),
    [
        ("plain", {}, 1),
        ("plain", {"service_tier": None}, 1),
        ("plain", {"service_tier": "auto"}, 1),
        ("plain", {"service_tier": "default"}, 1),
        ("plain", {"service_tier": "standard"}, 1),
        ("plain", {"service_tier": "standard_only"}, 1),
        ("plain", {"service_tier": "priority"}, 3),
        ("plain", {"service_tier": "flex"}, 1),  # it may be served at the plain price
        ("plain", {"service_tier": "of next year"}, 6),
        ("plain", {"speed": "fast"}, 6),
        ("plain", {"speed": "standard"}, 1),
        ("plain", {"speed": 1}, 1),
        ("dear", {}, 3),
        ("dear", {"service_tier": "default"}, 1),
        ("quick", {}, 6),
        ("quick", {"speed": "standard"}, 1),
        ("odd", {}, 1),
        ("one", {"service_tier": "priority"}, 1),
    ],
)
@pytest.mark.parametrize("endpoint", [CHAT, MESSAGES, RESPONSES])
def test_the_tier_that_is_asked_for_is_held(model, fields, factor, endpoint):
    """A discount may be refused, and what is not known may be dear."""
    estimates, plan = planned(model, endpoint, TIERS, **fields)

    assert 4096 * 1_000 * factor == estimates.most_nanousd(plan.steps)
