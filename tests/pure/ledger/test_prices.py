"""Our compiled prices against the library they were compiled from."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from genai_prices import Usage as ListUsage
from genai_prices import calc_price
from hypothesis import given
from hypothesis import strategies as st

from shared.chat.usage import Usage
from shared.config.model import Price
from shared.ledger.cost import cost_of, usd_text, worst_cost_of
from shared.ledger.prices import PROVIDER_IDS, CompiledPrice, Rate, compile_price

AT = datetime(2026, 11, 21, 20, tzinfo=UTC)

MODELS = [
    ("openai", "gpt-4o"),
    ("openai", "gpt-4o-2024-08-06"),
    ("openai", "o3"),
    ("openai", "gpt-5.6-luna"),
    ("openai", "gpt-audio"),
    ("openai", "text-embedding-3-small"),
    ("azure_openai", "gpt-4o"),
    ("anthropic", "claude-sonnet-4-5"),
    ("gemini", "gemini-2.5-pro"),
    ("bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0"),
    ("xai", "grok-4.5"),
    ("groq", "llama-3.3-70b-versatile"),
    ("mistral", "mistral-large-latest"),
    ("openrouter", "anthropic/claude-sonnet-4.5"),
]
USAGES = [
    Usage(input_tokens=10_000, output_tokens=1_000),
    Usage(input_tokens=10_000, output_tokens=1_000, cache_read_tokens=8_000),
    Usage(input_tokens=10_000, output_tokens=7, cache_read_tokens=900, cache_write_tokens=600),
    Usage(input_tokens=200_000, output_tokens=1),
    Usage(input_tokens=200_001, output_tokens=1),
    Usage(input_tokens=300_000, output_tokens=4_000, cache_read_tokens=100_000),
    Usage(input_tokens=4_000, output_tokens=900, input_audio_tokens=3_000, output_audio_tokens=500),
    Usage(),
]


@pytest.mark.parametrize(("kind", "model"), MODELS)
@pytest.mark.parametrize("usage", USAGES)
def test_costs_what_the_library_says(kind, model, usage):
    """Its exact decimal, rounded once, half up."""
    exact = calc_price(
        ListUsage(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cache_read_tokens=usage.cache_read_tokens,
            cache_write_tokens=usage.cache_write_tokens,
            input_audio_tokens=usage.input_audio_tokens,
            output_audio_tokens=usage.output_audio_tokens,
            output_text_tokens=usage.output_tokens - usage.output_audio_tokens,
        ),
        model,
        provider_id=PROVIDER_IDS[kind],
        genai_request_timestamp=AT,
    ).total_price
    price = compile_price(kind, model, at=AT)

    assert int(exact * 10**9 + Decimal("0.5")) == cost_of(usage, price)


@pytest.mark.behaviour(161)
@pytest.mark.parametrize(
    ("kind", "model", "tier", "context"),
    [
        ("openai", "o3", "flex", {"service_tier": "flex"}),
        ("openai", "o3", "priority", {"service_tier": "priority"}),
        ("openai", "o3", "default", {}),
        ("openai", "o3", "a tier of next year", {}),
        ("openai", "gpt-4o", "batch", {"processing": "batch"}),
        ("anthropic", "claude-sonnet-4-5", "batch", {"processing": "batch"}),
        ("anthropic", "claude-sonnet-4-5", "standard", {}),
    ],
)
def test_the_tier_of_the_answer_decides(kind, model, tier, context):
    """As the library prices it; a tier that it does not know costs what the standard costs."""
    counted = ListUsage(input_tokens=10_000, output_tokens=1_000, cache_read_tokens=3_000)
    exact = calc_price(
        counted,
        model,
        provider_id=PROVIDER_IDS[kind],
        genai_request_timestamp=AT,
        price_context=context,
    ).total_price
    usage = Usage(
        input_tokens=10_000, output_tokens=1_000, cache_read_tokens=3_000, service_tier=tier
    )

    assert int(exact * 10**9 + Decimal("0.5")) == cost_of(usage, compile_price(kind, model, at=AT))


def test_tiers_differ():
    price = compile_price("openai", "o3", at=AT)
    standard, flex, priority = (
        cost_of(Usage(input_tokens=1_000, service_tier=tier), price)
        for tier in (None, "flex", "priority")
    )

    assert flex < standard < priority


@pytest.mark.behaviour(158)
@pytest.mark.parametrize(
    ("kind", "model"),
    [("openai", "no-such-model"), ("ollama", "llama3"), ("vllm", "gpt-4o"), ("mock", "gpt-4o"),
     ("openai_compatible", "gpt-4o")],
)  # fmt: skip
def test_unknown_is_none_not_zero(kind, model):
    assert compile_price(kind, model) is None


def test_an_address_may_name_the_vendor():
    there = compile_price(
        "openai_compatible", "deepseek-chat", base_url="https://api.deepseek.com/v1"
    )
    elsewhere = compile_price("openai_compatible", "deepseek-chat", base_url="http://gpu:8000/v1")

    assert (True, None) == (there is not None, elsewhere)


def test_the_configs_price_replaces_the_list():
    price = compile_price("openai", "gpt-4o", Price(input_per_mtok="2.5", output_per_mtok="10"))

    assert ("config", 2_500_000_000, 2_500_000_000, 10_000_000_000) == (
        price.source, price.input.base, price.cache_read.base, price.output.base,
    )  # fmt: skip


def test_the_source_names_the_lists_version():
    assert compile_price("openai", "gpt-4o").source.startswith("genai-prices ")


@pytest.mark.parametrize(
    ("at", "usd"),
    [(datetime(2025, 5, 1, tzinfo=UTC), 10), (datetime(2026, 5, 1, tzinfo=UTC), 2), (None, 2)],
)
def test_the_price_in_force_at_that_moment(at, usd):
    """OpenAI's o3 became cheaper in June 2025; without a moment the newest counts."""
    assert usd * 10**9 == compile_price("openai", "o3", at=at).input.base


def test_of_prices_by_the_hour_the_dearest():
    """DeepSeek's v4-pro costs twice as much at peak."""
    assert 1_320_000_000 == compile_price("deepseek", "deepseek-v4-pro", at=AT).input.base


TOKENS = st.integers(0, 1_000_000)
RATES = st.builds(
    Rate,
    base=st.integers(0, 10**11),
    steps=st.lists(st.tuples(st.integers(1, 500_000), st.integers(0, 10**11)), max_size=2)
    .map(sorted).map(tuple),
)  # fmt: skip
PRICES = st.builds(
    CompiledPrice, input=RATES, output=RATES, cache_read=RATES, cache_write=RATES,
    input_audio=RATES, output_audio=RATES,
)  # fmt: skip


@given(price=PRICES, total=TOKENS, read=TOKENS, write=TOKENS, audio=TOKENS, output=TOKENS)
def test_a_hold_covers_every_way_to_spend_the_same_counts(price, total, read, write, audio, output):
    usage = Usage(
        input_tokens=total,
        output_tokens=output,
        cache_read_tokens=read,
        cache_write_tokens=write,
        input_audio_tokens=audio,
    )

    assert 0 <= cost_of(usage, price) <= worst_cost_of(usage, price)


def test_half_a_nano_dollar_is_rounded_up_once():
    rate, free = Rate(base=500_000), Rate(base=0)
    price = CompiledPrice(
        input=rate, output=rate, cache_read=free, cache_write=free,
        input_audio=free, output_audio=free,
    )  # fmt: skip

    assert 1 == cost_of(Usage(input_tokens=1), price)
    assert 1 == cost_of(Usage(input_tokens=1, output_tokens=1), price)


@pytest.mark.parametrize(
    ("nanousd", "text"),
    [
        (0, "0"),
        (1, "0.000000001"),
        (37_500, "0.0000375"),
        (12_000_000_000, "12"),
        (-5, "-0.000000005"),
    ],
)
def test_dollars_are_plain_decimals(nanousd, text):
    assert text == usd_text(nanousd)


@pytest.mark.parametrize(
    ("model", "usage", "usd"),
    [
        ("whisper-1", Usage(input_audio_ms=36_000), "0.0036"),
        ("whisper-1", Usage(input_audio_ms=1), "0.0000001"),
        ("tts-1", Usage(input_characters=3, input_tokens=1, output_tokens=9), "0.000045"),
        ("gpt-4o-transcribe", Usage(input_tokens=1_000, input_audio_tokens=1_000), "0.006"),
        ("gpt-image-1", Usage(input_tokens=1_000, output_tokens=1_000), "0.045"),
        ("gpt-image-1", Usage(input_tokens=1_000, input_image_tokens=400), "0.007"),
    ],
)
def test_what_is_not_sold_by_the_token_of_text(model, usage, usd):
    """Sound by the hour or by its own tokens, speech by the character, pictures by theirs."""
    price = compile_price("openai", model, at=AT)

    assert usd == usd_text(cost_of(usage, price))
    assert worst_cost_of(usage, price) >= cost_of(usage, price)
