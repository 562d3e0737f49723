"""What is written to a provider's cache costs by how long it stays there."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from genai_prices import Usage as ListUsage
from genai_prices import calc_price

from shared.chat.usage import Usage
from shared.config.price import Price
from shared.ledger.cost import cost_of, worst_cost_of
from shared.ledger.prices import PROVIDER_IDS, compile_price

AT = datetime(2026, 11, 21, 20, tzinfo=UTC)
WRITTEN = Usage(
    input_tokens=10_000,
    output_tokens=7,
    cache_read_tokens=900,
    cache_write_tokens=600,
    cache_write_1h_tokens=250,
)


@pytest.mark.behaviour(150, 152)
@pytest.mark.parametrize(
    ("kind", "model"),
    [
        ("anthropic", "claude-sonnet-4-5"),
        ("anthropic", "claude-opus-5-5"),
        ("bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0"),
    ],
)
def test_an_hour_costs_more_than_five_minutes(kind, model):
    """The list's own sum; each token is charged once."""
    exact = calc_price(
        ListUsage(
            input_tokens=WRITTEN.input_tokens,
            output_tokens=WRITTEN.output_tokens,
            cache_read_tokens=WRITTEN.cache_read_tokens,
            cache_write_tokens=WRITTEN.cache_write_tokens,
            cache_write_1h_tokens=WRITTEN.cache_write_1h_tokens,
        ),
        model,
        provider_id=PROVIDER_IDS[kind],
        genai_request_timestamp=AT,
    ).total_price
    price = compile_price(kind, model, at=AT)

    assert int(exact * 10**9 + Decimal("0.5")) == cost_of(WRITTEN, price)
    assert cost_of(WRITTEN, price) < worst_cost_of(WRITTEN, price)


def test_without_a_rate_of_its_own_it_costs_what_writing_costs():
    price = compile_price(
        "anthropic",
        "claude-sonnet-4-5",
        Price(input_per_mtok="1", output_per_mtok="0", cache_write_per_mtok="2"),
    )

    assert (10_000 + 600) * 1000 == cost_of(WRITTEN, price)
