"""What a Claude can is known by its name, whoever hosts it."""

import pytest

from shared.providers.dialects.anthropic_models import effort_for, quirks_of


@pytest.mark.behaviour(53)
@pytest.mark.parametrize(
    ("model", "tokens"),
    [
        ("claude-3-haiku-20240307", 4_096),
        ("claude-3-5-sonnet-20241022", 8_192),
        ("claude-3-7-sonnet-latest", 64_000),
        ("claude-opus-4-20250514", 32_000),
        ("claude-opus-4-1-20250805", 32_000),
        ("claude-sonnet-4-20250514", 64_000),
        ("claude-sonnet-4@20250514", 64_000),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", 64_000),
        ("anthropic/claude-opus-4.6", 128_000),
        ("claude-fable-5-1", 128_000),
        ("kimi-k3", 4_096),
    ],
)
def test_most_output(model, tokens):
    assert tokens == quirks_of(model).output_limit


@pytest.mark.parametrize(
    ("model", "thinking", "unasked", "off", "forces", "sampling", "prefill", "schema"),
    [
        ("claude-3-5-haiku-latest", "none", False, "disabled", True, True, True, False),
        ("claude-opus-4-1", "budget", False, "disabled", True, True, True, True),
        ("claude-haiku-4-5", "budget", False, "disabled", True, True, True, True),
        ("claude-sonnet-4-6", "adaptive", False, "disabled", True, True, False, True),
        ("claude-opus-4-7", "adaptive", False, "disabled", True, False, False, True),
        ("claude-opus-5", "adaptive", True, "disabled", True, False, False, True),
        ("claude-haiku-5-5", "adaptive", True, "disabled", True, False, False, True),
        ("claude-sonnet-5-5", "adaptive", True, "between_tools", False, False, False, True),
        ("claude-opus-5-5", "adaptive", True, None, False, False, False, True),
        ("claude-mythos-5", "adaptive", True, None, False, False, False, True),
        ("claude-newname-6", "adaptive", True, "disabled", True, False, False, True),
        ("someone-elses", "budget", False, "disabled", True, True, True, False),
    ],
)
def test_abilities(model, thinking, unasked, off, forces, sampling, prefill, schema):
    quirks = quirks_of(model)

    assert (thinking, unasked, off) == (quirks.thinking, quirks.thinks_unasked, quirks.off)
    assert (forces, sampling, prefill, schema) == (
        quirks.forces_tools,
        quirks.sampling,
        quirks.prefill,
        quirks.schema,
    )


@pytest.mark.parametrize(
    ("model", "wanted", "level"),
    [
        ("claude-opus-4-5", "max", "high"),
        ("claude-opus-4-6", "xhigh", "high"),
        ("claude-opus-4-6", "max", "max"),
        ("claude-opus-4-7", "xhigh", "xhigh"),
        ("claude-sonnet-4-6", "minimal", "low"),
        ("claude-sonnet-5", "unheard-of", "medium"),
    ],
)
def test_levels_of_effort(model, wanted, level):
    assert level == effort_for(wanted, quirks_of(model).efforts)
