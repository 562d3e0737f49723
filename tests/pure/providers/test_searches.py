"""Searches of the web that providers make and charge for, and other figures apart from tokens."""

import msgspec
import pytest

from shared.providers.dialects.anthropic_usage import usage_from as of_claude
from shared.providers.dialects.gemini_searches import queries_of, searches
from shared.providers.dialects.gemini_usage import usage_of as of_gemini
from shared.providers.dialects.gemini_wire import UsageMetadata
from shared.providers.dialects.openai_usage import usage_from as of_openai
from shared.providers.dialects.responses_usage import searches_in
from shared.providers.dialects.responses_usage import usage_of as of_responses


def test_claude_counts_them():
    wire = {"input_tokens": 9, "output_tokens": 1, "server_tool_use": {"web_search_requests": 2}}

    assert 2 == of_claude(wire).web_searches


@pytest.mark.parametrize(
    ("usage", "made"),
    [
        ({"num_search_queries": 18}, 18),
        ({"server_tool_use": {"web_search_requests": 3}}, 3),
        ({"num_search_queries": "many", "server_tool_use": 4}, 0),
        ({}, 0),
    ],
    ids=["Perplexity", "OpenRouter", "no counts", "none"],
)
def test_imitators_of_openai_count_them(usage, made):
    assert made == of_openai({"prompt_tokens": 9, "completion_tokens": 1, **usage}).web_searches


@pytest.mark.parametrize(
    ("items", "made"),
    [
        ([{"type": "web_search_call", "action": {"type": "search", "query": "q"}}] * 2, 2),
        ([{"type": "web_search_call"}, {"type": "web_search_call", "action": None}], 2),
        ([{"type": "web_search_call", "action": {"type": "open_page", "url": "u"}}], 0),
        ([{"type": "message", "content": [{"text": '"web_search_call"'}]}], 0),
        ("web_search_call", 0),
        ([1, {"type": "web_search_call"}], 0),
    ],
)
def test_those_of_a_response_are_its_items(items, made):
    """Opening a page is not charged; what is not readable breaks nothing."""
    assert made == searches_in(msgspec.json.encode(items))


@pytest.mark.parametrize(
    ("model", "queries", "made"),
    [
        ("gemini-2.5-pro", [["a", "b"]], 1),
        ("models/gemini-2.0-flash", [["a"], ["b"]], 1),
        ("gemini-2.5-pro", [[]], 0),
        ("gemini-3-pro-preview", [["a", "b"], ["b"]], 2),
        ("gemini-3.1-pro-preview", [["a"]], 1),
        ("gemini-4-argon", [["a", "b", "c"]], 3),
    ],
)
def test_gemini_charges_by_prompt_and_later_by_query(model, queries, made):
    assert made == searches(model, queries)


@pytest.mark.parametrize(
    ("grounding", "queries"),
    [({"webSearchQueries": ["a", "", 7]}, ["a"]), ({"webSearchQueries": "a"}, []), ({}, [])],
)
def test_only_real_queries_count(grounding, queries):
    assert queries == queries_of(grounding)


def test_geminis_pictures_and_cached_sound_stand_apart():
    details = [
        {"modality": "AUDIO", "tokenCount": 60},
        {"modality": "IMAGE", "tokenCount": 20},
        {"modality": "TEXT", "tokenCount": 20},
    ]
    wire = {
        "promptTokenCount": 100,
        "cachedContentTokenCount": 50,
        "candidatesTokenCount": 1_300,
        "thoughtsTokenCount": 5,
        "promptTokensDetails": details,
        "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 40}],
        "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 1_290}],
    }
    usage = of_gemini(msgspec.convert(wire, UsageMetadata), 2)

    assert (50, 40, 20, 20, 1_290, 2) == (
        usage.cache_read_tokens, usage.cache_read_audio_tokens, usage.input_audio_tokens,
        usage.input_image_tokens, usage.output_image_tokens, usage.web_searches,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("wire", "counts"),
    [
        ({"prompt_tokens": 9, "total_tokens": 12}, (9, 3, False)),
        ({"completion_tokens": 3, "total_tokens": 12}, (9, 3, False)),
        ({"prompt_tokens": 9, "total_tokens": 9}, (9, 0, False)),
        ({"prompt_tokens": 9}, (9, 0, True)),
        ({"completion_tokens": 3}, (0, 3, True)),
        ({"prompt_tokens": 9, "completion_tokens": 0}, (9, 0, False)),
    ],
)
def test_a_side_that_is_not_counted_is_what_the_total_leaves(wire, counts):
    usage = of_openai(wire)

    assert counts == (usage.input_tokens, usage.output_tokens, usage.estimated)


@pytest.mark.parametrize(
    ("cost", "nanousd"),
    [({"cost": 0.5}, 500_000_000), ({"cost": {"total_cost": 0.25}}, 250_000_000),
     ({"cost_in_usd_ticks": 10**10}, 10**9), ({"cost": {}}, None), ({}, None)],
)  # fmt: skip
def test_a_response_may_state_its_cost(cost, nanousd):
    wire = {"input_tokens": 9, "output_tokens": 1, **cost}

    assert nanousd == of_responses(wire).reported_nanousd
