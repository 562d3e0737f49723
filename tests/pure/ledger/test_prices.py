"""Our compiled prices against the library they were compiled from."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from importlib.metadata import version

import msgspec
import pytest
from genai_prices import Usage as ListUsage
from genai_prices import calc_price
from hypothesis import given
from hypothesis import strategies as st

from shared.chat.usage import Usage
from shared.config.price import Price
from shared.ledger.cost import cost_of, usd_text, worst_cost_of
from shared.ledger.prices import PROVIDER_IDS, compile_price, likely_price
from shared.ledger.rates import CompiledPrice, Phase, Rate, nano, scaled

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
    price = compile_price("openai", "gpt-4o")

    assert ("genai-prices", version("genai-prices")) == (price.source, price.version)


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


@pytest.mark.parametrize(
    ("moment", "usd"),
    [
        ("2026-11-21T00:59:59", "0.66"),
        ("2026-11-21T01:00:00", "1.32"),
        ("2026-11-21T03:59:59", "1.32"),
        ("2026-11-21T04:00:00", "0.66"),
        ("2026-11-21T09:30:00", "1.32"),
        ("2026-11-21T20:00:00", "0.66"),
    ],
)
def test_the_price_of_the_hour(moment, usd):
    """DeepSeek's peaks are from 1 to 4 and from 6 to 10 UTC; a hold takes the dearest."""
    price = compile_price("deepseek", "deepseek-v4-pro", at=AT)
    at = datetime.fromisoformat(f"{moment}+00:00")

    assert nano(usd) == price.at(at).input.base
    assert nano("1.32") == price.input.base


def test_a_price_that_begins_later_is_known_before():
    """OpenAI's o3 became cheaper on 10 June 2025: a process that started before charges so."""
    price = compile_price("openai", "o3", at=datetime(2025, 5, 1, tzinfo=UTC))
    eve, day = (datetime(2025, 6, 9, 23, 59, 59, tzinfo=UTC), datetime(2025, 6, 10, tzinfo=UTC))

    assert [nano("10"), nano("2")] == [price.at(moment).input.base for moment in (eve, day)]


@pytest.mark.parametrize(
    ("first", "last", "second", "inside"),
    [(10, 20, 10, True), (10, 20, 20, False), (80_000, 100, 86_399, True), (80_000, 100, 99, True),
     (80_000, 100, 100, False)],
)  # fmt: skip
def test_hours_may_lie_around_midnight(first, last, second, inside):
    phase = Phase(price=compile_price("openai", "o3"), hours=(first, last))
    midnight = datetime(2026, 1, 1, tzinfo=UTC)

    assert inside == phase.covers(midnight + timedelta(seconds=second))


def test_a_likely_price_is_the_dearest_sellers_and_says_whose():
    price = likely_price("llama-3.3-70b-versatile", AT)

    assert ("estimate", True) == (price.source, price.version.startswith(version("genai-prices")))
    assert price.input.base >= compile_price("groq", "llama-3.3-70b-versatile").input.base
    assert likely_price("no-such-model-anywhere", AT) is None


def test_a_version_tells_the_configs_figures_apart():
    one, same, other = (
        compile_price("vllm", "m", Price(input_per_mtok=usd, output_per_mtok="1"))
        for usd in ("1", "1", "2")
    )

    assert one.version == same.version != other.version
    assert f"{one.version} x0.99" == scaled(one, Decimal("0.9"), Decimal("1.1")).version


TOKENS = st.integers(0, 1_000_000)
RATES = st.builds(
    Rate,
    base=st.integers(0, 10**11),
    steps=st.lists(st.tuples(st.integers(1, 500_000), st.integers(0, 10**11)), max_size=2)
    .map(sorted).map(tuple),
)  # fmt: skip
PRICES = st.builds(
    CompiledPrice, input=RATES, output=RATES, cache_read=RATES, cache_write=RATES,
    input_audio=RATES, output_audio=RATES, cache_read_audio=st.none() | RATES,
    cache_write_1h=st.none() | RATES, reasoning=st.none() | RATES, input_image=st.none() | RATES,
    output_image=st.none() | RATES, per_request_nanousd=st.integers(0, 10**9),
    per_1000_searches_nanousd=st.integers(0, 10**11), per_mchar_nanousd=st.integers(0, 10**11),
    per_audio_hour_nanousd=st.integers(0, 10**10),
)  # fmt: skip
USAGES_OF_ANY_KIND = st.fixed_dictionaries(
    {
        name: TOKENS
        for name in Usage.__struct_fields__
        if name.endswith(("_tokens", "_ms", "_characters", "_searches"))
    }
)


@given(price=PRICES, counts=USAGES_OF_ANY_KIND)
def test_a_hold_covers_every_way_to_spend_the_same_counts(price, counts):
    usage = Usage(**counts)

    assert 0 <= cost_of(usage, price) <= worst_cost_of(usage, price)


@given(price=PRICES, given_in=TOKENS, given_out=TOKENS.filter(bool))
def test_tokens_of_no_kind_cost_what_a_kind_without_a_rate_does(price, given_in, given_out):
    price = msgspec.structs.replace(price, reasoning=None)
    plain = Usage(input_tokens=given_in, output_tokens=given_out)
    thought = msgspec.structs.replace(plain, reasoning_tokens=given_out // 2 + 1)

    assert cost_of(plain, price) == cost_of(thought, price)


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
