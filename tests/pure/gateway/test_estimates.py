"""What a call can cost at most, over all the targets that it may go to."""

import json

import pytest

from shared.gateway.admission import Estimates
from shared.gateway.parse import parse_request
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
- {model: longer, price: {input_per_mtok: 1, output_per_mtok: 2}, hold_output_tokens: 9000,
   targets: [{provider: far, model: a}]}
"""


@pytest.mark.parametrize(
    ("model", "differing"),
    [("alike", 1), ("dear", 2), ("free", 1), ("back", 2)],
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

        assert differing == len(steps)
        assert whole.most_tokens(plan.steps) == estimates.most_tokens(steps)
        assert whole.most_nanousd(plan.steps) == estimates.most_nanousd(steps)
