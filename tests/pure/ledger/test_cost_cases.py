"""What calls cost, computed by hand from the vendors' price pages, each with its arithmetic.

A term is `tokens x USD` for a million of them; `/k` is for a thousand, `/h` for an hour of which
milliseconds are given, `/1` for one. Prices are those of AT.
"""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from genai_prices import Usage as ListUsage
from genai_prices import calc_price

from shared.chat.usage import Usage
from shared.config.price import Price, PriceStep, PriceTier
from shared.ledger.cost import cost_of, usd_text, worst_cost_of
from shared.ledger.prices import PROVIDER_IDS, compile_price
from shared.ledger.rates import scaled

AT = datetime(2026, 11, 21, 20, tzinfo=UTC)
PER = {"": 10**6, "k": 1000, "h": 3_600_000, "1": 1}


def used(*counts: int, **more: object) -> Usage:
    """Return a usage of input and output."""
    return Usage(**dict(zip(("input_tokens", "output_tokens"), counts, strict=False)), **more)


def worked(arithmetic: str) -> Decimal:
    """Return what the arithmetic of a case comes to, in USD."""
    total = Decimal(0)
    for term in arithmetic.split(" + "):
        count, rate = term.split(" x ")
        usd, _, per = rate.partition("/")
        total += int(count.replace(",", "")) * Decimal(usd) / PER[per]
    return total


SONNET = "claude-sonnet-4-5"
BEDROCK = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
BATCH, FLEX, PRIORITY = ({"service_tier": tier} for tier in ("batch", "flex", "priority"))

LISTED = [
    # OpenAI
    ("openai", "gpt-4o", used(10_000, 1_000), "10,000 x 2.5 + 1,000 x 10", "0.035"),
    ("openai", "gpt-4o", used(10_000, 1_000, cache_read_tokens=8_000),
     "2,000 x 2.5 + 8,000 x 1.25 + 1,000 x 10", "0.025"),
    ("openai", "gpt-4o-2024-08-06", used(10_000, 1_000), "10,000 x 2.5 + 1,000 x 10", "0.035"),
    ("openai", "gpt-4o", used(10_000, 1_000, **BATCH), "10,000 x 1.25 + 1,000 x 5", "0.0175"),
    ("openai", "gpt-4o", used(10_000, 1_000, **PRIORITY), "10,000 x 4.25 + 1,000 x 17", "0.0595"),
    ("openai", "gpt-4o", used(100, 10, cache_read_tokens=40, **PRIORITY),
     "60 x 4.25 + 40 x 2.125 + 10 x 17", "0.00051"),
    ("openai", "gpt-4o-mini", used(7, 3), "7 x 0.15 + 3 x 0.6", "0.00000285"),
    ("openai", "gpt-4o-mini", used(1_000, 0, cache_read_tokens=1_000), "1,000 x 0.075", "0.000075"),
    ("openai", "o3", used(10_000, 1_000, reasoning_tokens=900),
     "10,000 x 2 + 100 x 8 + 900 x 8", "0.028"),
    ("openai", "o3", used(10_000, 1_000, **FLEX), "10,000 x 1 + 1,000 x 4", "0.014"),
    ("openai", "o3", used(10_000, 1_000, cache_read_tokens=4_000, **FLEX),
     "6,000 x 1 + 4,000 x 0.25 + 1,000 x 4", "0.011"),
    ("openai", "o3", used(10_000, 1_000, **PRIORITY), "10,000 x 3.5 + 1,000 x 14", "0.049"),
    ("openai", "o3", used(10_000, 1_000, service_tier="default"),
     "10,000 x 2 + 1,000 x 8", "0.028"),
    ("openai", "o3", used(1_000, 100, web_searches=3), "1,000 x 2 + 100 x 8 + 3 x 10/k", "0.0328"),
    ("openai", "gpt-5.6-sol",
     used(10_000, 1_000, cache_read_tokens=8_000, cache_write_tokens=1_000),
     "1,000 x 4 + 8,000 x 0.4 + 1,000 x 5 + 1,000 x 20", "0.0322"),
    ("openai", "gpt-5.6-sol", used(10_000, 1_000), "10,000 x 4 + 1,000 x 20", "0.06"),
    ("openai", "gpt-5.6-luna", used(272_000, 1_000), "272,000 x 0.2 + 1,000 x 1.2", "0.0556"),
    ("openai", "gpt-5.6-luna", used(272_001, 1_000), "272,001 x 0.4 + 1,000 x 1.8", "0.1106004"),
    ("openai", "gpt-5.6-luna", used(300_000, 1_000), "300,000 x 0.4 + 1,000 x 1.8", "0.1218"),
    ("openai", "gpt-5.6-luna", used(300_000, 1_000, cache_read_tokens=200_000, **BATCH),
     "100,000 x 0.2 + 200,000 x 0.02 + 1,000 x 0.9", "0.0249"),
    ("openai", "gpt-6-astra", used(10_000, 1_000), "10,000 x 10 + 1,000 x 50", "0.15"),
    ("openai", "gpt-6-astra", used(10_000, 1_000, cache_write_tokens=4_000, **FLEX),
     "6,000 x 5 + 4,000 x 6.25 + 1,000 x 25", "0.08"),
    ("openai", "gpt-audio", used(5_000, 1_500, input_audio_tokens=4_000, output_audio_tokens=500),
     "1,000 x 2.5 + 4,000 x 32 + 1,000 x 10 + 500 x 64", "0.1725"),
    ("openai", "text-embedding-3-small", used(123_456), "123,456 x 0.02", "0.00246912"),
    ("openai", "gpt-image-1", used(1_000, 4_160, input_image_tokens=400, output_image_tokens=4_160),
     "600 x 5 + 400 x 10 + 4,160 x 40", "0.1734"),
    ("openai", "gpt-image-1.5", used(0, 5_000, output_image_tokens=4_000),
     "1,000 x 10 + 4,000 x 32", "0.138"),
    ("openai", "whisper-1", used(input_audio_ms=36_500), "36,500 x 0.36/h", "0.00365"),
    ("openai", "tts-1", used(9, 20, input_characters=1_234), "1,234 x 15", "0.01851"),
    ("openai", "gpt-4o-transcribe", used(1_000, 100, input_audio_tokens=1_000),
     "1,000 x 6 + 100 x 10", "0.007"),
    # Azure
    ("azure_openai", "gpt-4o", used(10_000, 1_000), "10,000 x 2.5 + 1,000 x 10", "0.035"),
    ("azure_openai", "gpt-4o", used(10_000, 1_000, cache_read_tokens=10_000),
     "10,000 x 1.25 + 1,000 x 10", "0.0225"),
    # Anthropic
    ("anthropic", SONNET, used(10_000, 1_000), "10,000 x 3 + 1,000 x 15", "0.045"),
    ("anthropic", SONNET, used(10_000, 1_000, cache_read_tokens=8_000, cache_write_tokens=1_000),
     "1,000 x 3 + 8,000 x 0.3 + 1,000 x 3.75 + 1,000 x 15", "0.02415"),
    ("anthropic", SONNET,
     used(1_600, 10, cache_write_tokens=500, cache_write_1h_tokens=300, web_searches=2),
     "1,100 x 3 + 200 x 3.75 + 300 x 6 + 10 x 15 + 2 x 10/k", "0.026"),
    ("anthropic", SONNET, used(12_307, 12, cache_write_tokens=12_304),
     "3 x 3 + 12,304 x 3.75 + 12 x 15", "0.046329"),
    ("anthropic", SONNET, used(10_000, 1_000, **BATCH), "10,000 x 1.5 + 1,000 x 7.5", "0.0225"),
    ("anthropic", SONNET, used(10_000, 10, cache_write_tokens=9_000, cache_write_1h_tokens=9_000,
     **BATCH), "1,000 x 1.5 + 9,000 x 3 + 10 x 7.5", "0.028575"),
    ("anthropic", SONNET, used(200_001, 1), "200,001 x 6 + 1 x 22.5", "1.2000285"),
    ("anthropic", SONNET, used(300_000, 100, cache_read_tokens=290_000),
     "10,000 x 6 + 290,000 x 0.6 + 100 x 22.5", "0.23625"),
    ("anthropic", "claude-opus-5-5", used(10_000, 1_000), "10,000 x 4 + 1,000 x 20", "0.06"),
    ("anthropic", "claude-opus-5-5", used(10_000, 1_000, service_tier="fast"),
     "10,000 x 8 + 1,000 x 40", "0.12"),
    ("anthropic", "claude-opus-5-5", used(10_000, 1_000, cache_read_tokens=9_000,
     service_tier="fast"), "1,000 x 8 + 9,000 x 0.4 + 1,000 x 40", "0.0516"),
    ("anthropic", "claude-opus-5-5", used(10_000, 1_000, reasoning_tokens=800, **BATCH),
     "10,000 x 2 + 1,000 x 10", "0.03"),
    # Gemini
    ("gemini", "gemini-2.5-pro", used(10_000, 1_000), "10,000 x 1.25 + 1,000 x 10", "0.0225"),
    ("gemini", "gemini-2.5-pro", used(250_000, 1_000), "250,000 x 2.5 + 1,000 x 15", "0.64"),
    ("gemini", "gemini-2.5-pro", used(10_000, 1_000, **BATCH),
     "10,000 x 0.625 + 1,000 x 5", "0.01125"),
    ("gemini", "gemini-2.5-pro", used(1_000, 100, reasoning_tokens=60, web_searches=1),
     "1,000 x 1.25 + 100 x 10 + 1 x 35/k", "0.03725"),
    ("gemini", "gemini-2.5-flash", used(10_000, 1_000, cache_read_tokens=9_000),
     "1,000 x 0.3 + 9,000 x 0.03 + 1,000 x 2.5", "0.00307"),
    ("gemini", "gemini-2.5-flash", used(10_000, 100, input_audio_tokens=6_000),
     "4,000 x 0.3 + 6,000 x 1 + 100 x 2.5", "0.00745"),
    ("gemini", "gemini-2.5-flash",
     used(10_000, 100, input_audio_tokens=2_000, cache_read_tokens=5_000,
          cache_read_audio_tokens=4_000),
     "3,000 x 0.3 + 2,000 x 1 + 1,000 x 0.03 + 4,000 x 0.1 + 100 x 2.5", "0.00358"),
    ("gemini", "gemini-2.5-flash-image", used(100, 1_300, output_image_tokens=1_290),
     "100 x 0.3 + 10 x 2.5 + 1,290 x 30", "0.038755"),
    ("gemini", "gemini-3-pro-preview", used(1_000, 100, web_searches=4),
     "1,000 x 2 + 100 x 12 + 4 x 14/k", "0.0592"),
    # Bedrock: its geographic profiles cost a tenth more
    ("bedrock", BEDROCK, used(10_000, 1_000), "10,000 x 3.3 + 1,000 x 16.5", "0.0495"),
    ("bedrock", BEDROCK, used(10_000, 1, cache_write_tokens=3_000, cache_write_1h_tokens=1_000),
     "7,000 x 3.3 + 2,000 x 4.125 + 1,000 x 6.6 + 1 x 16.5", "0.0379665"),
    ("bedrock", "amazon.nova-pro-v1:0", used(10_000, 1_000, cache_read_tokens=5_000),
     "5,000 x 0.8 + 5,000 x 0.2 + 1,000 x 3.2", "0.0082"),
    # xAI
    ("xai", "grok-4.5", used(10_000, 1_000), "10,000 x 2 + 1,000 x 6", "0.026"),
    ("xai", "grok-4.5", used(10_000, 103, reasoning_tokens=94, cache_read_tokens=9_000),
     "1,000 x 2 + 9,000 x 0.3 + 103 x 6", "0.005318"),
    ("xai", "grok-4.5", used(199_999, 1), "199,999 x 2 + 1 x 6", "0.400004"),
    ("xai", "grok-4.5", used(200_000, 1), "200,000 x 4 + 1 x 12", "0.800012"),
    # Others
    ("deepseek", "deepseek-v4-flash", used(10_000, 1_000, cache_read_tokens=4_000),
     "6,000 x 0.15 + 4,000 x 0.003 + 1,000 x 0.6", "0.001512"),
    ("deepseek", "deepseek-v4-pro", used(10_000, 1_000), "10,000 x 0.66 + 1,000 x 1.98", "0.00858"),
    ("mistral", "mistral-large-latest", used(10_000, 1_000), "10,000 x 2 + 1,000 x 6", "0.026"),
    ("cohere", "command-a", used(10_000, 1_000), "10,000 x 2.5 + 1,000 x 10", "0.035"),
    ("groq", "llama-3.3-70b-versatile", used(10_000, 1_000),
     "10,000 x 0.59 + 1,000 x 0.79", "0.00669"),
    ("groq", "whisper-large-v3", used(input_audio_ms=60_000, **BATCH),
     "60,000 x 0.0555/h", "0.000925"),
    ("together", "meta-llama/Llama-3.3-70B-Instruct-Turbo", used(10_000, 1_000),
     "10,000 x 0.88 + 1,000 x 0.88", "0.00968"),
    ("cerebras", "llama3.1-8b", used(10_000, 1_000), "10,000 x 0.1 + 1,000 x 0.1", "0.0011"),
    ("openrouter", "anthropic/claude-sonnet-4.5", used(10_000, 1_000, cache_write_tokens=2_000),
     "8,000 x 3 + 2,000 x 3.75 + 1,000 x 15", "0.0465"),
    ("moonshot", "kimi-k2-0905-preview", used(10_000, 1_000, cache_read_tokens=6_000),
     "4,000 x 0.6 + 6,000 x 0.15 + 1,000 x 2.5", "0.0058"),
    ("zai", "glm-4.6", used(10_000, 1_000), "10,000 x 0.6 + 1,000 x 2.2", "0.0082"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "model", "usage", "arithmetic", "usd"), LISTED)
def test_a_listed_price_costs_what_the_arithmetic_says(kind, model, usage, arithmetic, usd):
    price = compile_price(kind, model, at=AT).at(AT)

    assert Decimal(usd) == worked(arithmetic)
    assert usd == usd_text(cost_of(usage, price))
    assert cost_of(usage, price) <= worst_cost_of(usage, price.of(usage.service_tier))


@pytest.mark.parametrize(
    ("address", "model", "usage", "arithmetic", "usd"),
    [
        ("https://api.perplexity.ai", "sonar-pro", used(1_000, 100),
         "1,000 x 3 + 100 x 15 + 1 x 14/k", "0.0185"),
        ("https://api.perplexity.ai", "sonar-deep-research",
         used(33, 81_160, reasoning_tokens=73_997, web_searches=18),
         "33 x 2 + 7,163 x 8 + 73,997 x 3 + 18 x 5/k", "0.369361"),
        ("https://api.deepseek.com/v1", "deepseek-v4-flash", used(1_000, 100),
         "1,000 x 0.15 + 100 x 0.6", "0.00021"),
    ],
)  # fmt: skip
def test_a_vendor_is_known_by_its_address(address, model, usage, arithmetic, usd):
    price = compile_price("openai_compatible", model, base_url=address, at=AT).at(AT)

    assert Decimal(usd) == worked(arithmetic)
    assert usd == usd_text(cost_of(usage, price))


PLAIN = Price(input_per_mtok="2", output_per_mtok="8")
WHOLE = Price(
    input_per_mtok="2",
    output_per_mtok="8",
    cache_read_per_mtok="0.2",
    cache_read_audio_per_mtok="0.4",
    cache_write_per_mtok="2.5",
    cache_write_1h_per_mtok="4",
    reasoning_per_mtok="3",
    input_audio_per_mtok="10",
    output_audio_per_mtok="20",
    input_image_per_mtok="5",
    output_image_per_mtok="40",
    per_request_usd="0.005",
    per_web_search_usd="0.01",
    per_million_characters_usd="15",
    per_audio_hour_usd="0.36",
    steps=(
        PriceStep(above_tokens=1_000, input_per_mtok="4", output_per_mtok="12"),
        PriceStep(above_tokens=2_000, input_per_mtok="6", cache_read_per_mtok="0.6"),
    ),
    tiers=(
        PriceTier(name="batch", factor="0.5"),
        PriceTier(name="priority", factor="2", input_per_mtok="3"),
    ),
)
GIVEN = [
    (PLAIN, used(1_000, 100), "1,000 x 2 + 100 x 8", "0.0028"),
    (PLAIN, used(1_000, 100, cache_read_tokens=300, cache_write_tokens=300,
     cache_write_1h_tokens=100, input_audio_tokens=50, reasoning_tokens=90),
     "1,000 x 2 + 100 x 8", "0.0028"),
    (WHOLE, used(1_000, 100), "1,000 x 2 + 100 x 8 + 1 x 0.005/1", "0.0078"),
    (WHOLE, used(1_000, 100, cache_read_tokens=300, cache_read_audio_tokens=100),
     "700 x 2 + 200 x 0.2 + 100 x 0.4 + 100 x 8 + 1 x 0.005/1", "0.00728"),
    (WHOLE, used(1_000, 100, cache_write_tokens=300, cache_write_1h_tokens=100),
     "700 x 2 + 200 x 2.5 + 100 x 4 + 100 x 8 + 1 x 0.005/1", "0.0081"),
    (WHOLE, used(1_000, 100, reasoning_tokens=60),
     "1,000 x 2 + 40 x 8 + 60 x 3 + 1 x 0.005/1", "0.0075"),
    (WHOLE, used(1_000, 100, input_audio_tokens=200, output_audio_tokens=30),
     "800 x 2 + 200 x 10 + 70 x 8 + 30 x 20 + 1 x 0.005/1", "0.00976"),
    (WHOLE, used(1_000, 100, input_image_tokens=400, output_image_tokens=90),
     "600 x 2 + 400 x 5 + 10 x 8 + 90 x 40 + 1 x 0.005/1", "0.01188"),
    (WHOLE, used(0, 0, web_searches=7), "7 x 0.01/1 + 1 x 0.005/1", "0.075"),
    (WHOLE, used(0, 0, input_characters=2_000), "2,000 x 15 + 1 x 0.005/1", "0.035"),
    (WHOLE, used(0, 0, input_audio_ms=10_000), "10,000 x 0.36/h + 1 x 0.005/1", "0.006"),
    (WHOLE, used(1_001, 100), "1,001 x 4 + 100 x 12 + 1 x 0.005/1", "0.010204"),
    (WHOLE, used(2_001, 100, cache_read_tokens=2_000),
     "1 x 6 + 2,000 x 0.6 + 100 x 12 + 1 x 0.005/1", "0.007406"),
    (WHOLE, used(2_000, 100, cache_read_tokens=1_000),
     "1,000 x 4 + 1,000 x 0.2 + 100 x 12 + 1 x 0.005/1", "0.0104"),
    (WHOLE, used(1_000, 100, **BATCH), "1,000 x 1 + 100 x 4 + 1 x 0.005/1", "0.0064"),
    (WHOLE, used(2_001, 100, **BATCH), "2,001 x 3 + 100 x 6 + 1 x 0.005/1", "0.011603"),
    (WHOLE, used(1_000, 100, cache_read_tokens=500, **PRIORITY),
     "500 x 3 + 500 x 0.4 + 100 x 16 + 1 x 0.005/1", "0.0083"),
    (WHOLE, used(2_001, 0, **PRIORITY), "2,001 x 3 + 1 x 0.005/1", "0.011003"),
    (WHOLE, used(1_000, 100, **FLEX), "1,000 x 2 + 100 x 8 + 1 x 0.005/1", "0.0078"),
    (WHOLE, used(0, 0, input_audio_ms=10_000, web_searches=1, **BATCH),
     "10,000 x 0.18/h + 1 x 0.01/1 + 1 x 0.005/1", "0.0155"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "usage", "arithmetic", "usd"), GIVEN)
def test_a_configured_price_costs_what_the_arithmetic_says(given, usage, arithmetic, usd):
    price = compile_price("vllm", "m", given)

    assert Decimal(usd) == worked(arithmetic)
    assert usd == usd_text(cost_of(usage, price))


@pytest.mark.parametrize(
    ("factor", "regional", "usage", "arithmetic", "usd"),
    [
        ("0.9", "1", used(10_000, 1_000), "10,000 x 1.8 + 1,000 x 7.2", "0.0252"),
        ("1", "1.1", used(10_000, 1_000), "10,000 x 2.2 + 1,000 x 8.8", "0.0308"),
        ("0.9", "1.1", used(10_000, 1_000), "10,000 x 1.98 + 1,000 x 7.92", "0.02772"),
        ("0.9", "1.1", used(1_000, 0, cache_read_tokens=600, **FLEX),
         "400 x 0.99 + 600 x 0.2475", "0.0005445"),
        ("1.25", "1.1", used(0, 0, web_searches=2), "2 x 12.5/k", "0.025"),
        ("0", "1", used(10_000, 1_000), "10,000 x 0", "0"),
    ],
)  # fmt: skip
def test_factors_multiply(factor, regional, usage, arithmetic, usd):
    """A discount or a margin all of it, a region's surcharge what the model works."""
    price = scaled(compile_price("openai", "o3", at=AT), Decimal(factor), Decimal(regional))

    assert Decimal(usd) == worked(arithmetic)
    assert usd == usd_text(cost_of(usage, price))


def context_of(usage: Usage) -> dict[str, str]:
    """Return the words in which the list asks for the tier of a usage."""
    match usage.service_tier:
        case "batch":
            return {"processing": "batch"}
        case "fast":
            return {"speed": "fast"}
        case str(tier):
            return {"service_tier": tier}
        case None:
            return {}


@pytest.mark.parametrize(
    ("kind", "model", "usage"),
    [case[:3] for case in LISTED if not case[2].input_characters],
)
def test_the_library_says_the_same(kind, model, usage):
    """Pieces apart: pages, documents and storage are not counted by anybody we call."""
    exact = calc_price(
        ListUsage(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cache_read_tokens=usage.cache_read_tokens,
            cache_audio_read_tokens=usage.cache_read_audio_tokens,
            cache_write_tokens=usage.cache_write_tokens,
            cache_write_1h_tokens=usage.cache_write_1h_tokens,
            input_audio_tokens=usage.input_audio_tokens + usage.cache_read_audio_tokens,
            output_audio_tokens=usage.output_audio_tokens,
            output_text_tokens=usage.output_tokens
            - usage.output_audio_tokens
            - usage.output_image_tokens,
            input_image_tokens=usage.input_image_tokens,
            output_image_tokens=usage.output_image_tokens,
            audio_seconds=Decimal(usage.input_audio_ms) / 1000,
            input_audio_seconds=Decimal(usage.input_audio_ms) / 1000,
            web_searches=usage.web_searches,
        ),
        model,
        provider_id=PROVIDER_IDS[kind],
        genai_request_timestamp=AT,
        price_context=context_of(usage),
    ).total_price

    price = compile_price(kind, model, at=AT).at(AT)
    assert int(exact * 10**9 + Decimal("0.5")) == cost_of(usage, price)
