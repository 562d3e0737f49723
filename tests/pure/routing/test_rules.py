"""Rules: which calls of a route go to another."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.config.model import RouteConfig, TargetConfig
from shared.config.rules import RouteRule, RuleMatch
from shared.routing.rules import Rule, compile_rules, first_match, header_names

MODELS = {"large": "large", "big": "large", "eu": "eu"}


def rule_of(route: str = "large", **when: dict[str, str]) -> RouteRule:
    return RouteRule(when=RuleMatch(**when), route=route)


@pytest.mark.parametrize(
    ("when", "tags", "headers", "expected"),
    [
        ({"tags": {"team": "research"}}, {"team": "research"}, {}, True),
        ({"tags": {"team": "research"}}, {"team": "research", "more": "x"}, {}, True),
        ({"tags": {"team": "research"}}, {"team": "Research"}, {}, False),
        ({"tags": {"team": "research"}}, {"Team": "research"}, {}, False),
        ({"tags": {"team": "research"}}, {"team": "researchers"}, {}, False),
        ({"tags": {"team": "research"}}, {}, {"team": "research"}, False),
        ({"tags": {"team": "*"}}, {"team": "any"}, {}, True),
        ({"tags": {"team": "*"}}, {"team": ""}, {}, True),
        ({"tags": {"team": "*"}}, {}, {}, False),
        ({"tags": {"team": "r*"}}, {"team": "research"}, {}, False),
        ({"headers": {"X-Region": "eu"}}, {}, {"x-region": "eu"}, True),
        ({"headers": {"x-region": "eu"}}, {}, {"x-region": "EU"}, False),
        ({"headers": {"x-region": "*"}}, {}, {"x-region": "EU"}, True),
        ({"headers": {"x-region": "eu"}}, {"x-region": "eu"}, {}, False),
        ({"tags": {"a": "1"}, "headers": {"x-b": "2"}}, {"a": "1"}, {"x-b": "2"}, True),
        ({"tags": {"a": "1"}, "headers": {"x-b": "2"}}, {"a": "1"}, {}, False),
        ({"tags": {"a": "1"}, "headers": {"x-b": "2"}}, {}, {"x-b": "2"}, False),
        ({"tags": {"a": "1", "b": "2"}}, {"a": "1"}, {}, False),
        ({"headers": {"X-A": "1", "x-a": "2"}}, {}, {"x-a": "1"}, False),
    ],
)
def test_every_entry_must_match(when, tags, headers, expected):
    rules = compile_rules([rule_of(**when)], MODELS)

    assert expected == (first_match(rules, tags, headers) is not None)


def test_a_rule_is_known_by_its_place_in_the_file_and_leads_to_a_model():
    """One that leads to a route which is off is left out, and the others keep their places."""
    entries = [
        rule_of("gone", tags={"a": "*"}),
        rule_of("big", tags={"a": "1"}),
        rule_of("eu", tags={"a": "*"}),
    ]

    rules = compile_rules(entries, MODELS)

    assert [(1, "large"), (2, "eu")] == [(rule.place, rule.route) for rule in rules]


def test_each_header_that_is_asked_for_is_named_once():
    targets = (TargetConfig(provider="p", model="m"),)
    routes = [
        RouteConfig(model="a", targets=targets),
        RouteConfig(
            model="b",
            targets=targets,
            rules=(
                rule_of(headers={"X-Region": "eu", "x-b": "*"}),
                rule_of(headers={"x-region": "us"}),
            ),
        ),
    ]

    assert (b"x-region", b"x-b") == header_names(routes)
    assert () == header_names(routes[:1])


names = st.sampled_from(["a", "b", "c"])
values = st.sampled_from(["1", "2", "*"])
pairs = st.dictionaries(names, values, max_size=3)


@given(st.lists(st.tuples(pairs, pairs), max_size=5), pairs, pairs)
def test_the_first_rule_that_matches_alone_decides(whens, tags, headers):
    """What a list of rules finds is what its first rule finds that would match by itself."""
    rules = [
        Rule(place=place, route="r", tags=tuple(asked.items()), headers=tuple(told.items()))
        for place, (asked, told) in enumerate(whens)
    ]

    alone = [rule for rule in rules if first_match([rule], tags, headers) is rule]

    assert (alone[0] if alone else None) is first_match(rules, tags, headers)


@given(pairs.filter(bool), pairs, pairs)
def test_saying_more_never_undoes_a_match(when, tags, more):
    rules = compile_rules([rule_of(tags=when)], MODELS)

    if first_match(rules, tags, {}):
        assert first_match(rules, {**more, **tags}, more)
