"""Reading YAML: two parsers, one tree."""

import pytest

from shared.config.mistakes import ConfigError, Mistakes
from shared.config.source import MOST_DEEP, parse_yaml

DOCUMENTS = {
    "every style of text": (
        "a: plain\nb: 'single'\nc: \"dou\\nble\"\nd: |\n  kept\n   as is\ne: >-\n  folded\n  line\n"
    ),
    "nothing": "a:\nb: ~\nc: null\nd: ''\ne: []\nf: {}\n",
    "what looks like something": "a: 2.50\nb: off\nc: 0o17\nd: 2026-11-22\ne: !!str 5\n",
    "lists and mappings": "a:\n  - 1\n  - {b: c, d: [e, f]}\n  -\n    - g\n",
    "anchors and merges": (
        "base: &base {a: 1, b: 2}\nmore:\n  <<: *base\n  b: 3\nlist: [*base, *base]\n"
    ),
    "comments and other languages": "# first\nä: ö  # and\n\n\n日本: 😀\n",
}


@pytest.mark.parametrize("text", DOCUMENTS.values(), ids=DOCUMENTS)
def test_both_parsers_see_the_same_tree(text: str):
    """Lines included: mistakes are told by them."""
    assert parse_yaml(text, Mistakes(), "f", fast=False) == parse_yaml(text, Mistakes(), "f")


@pytest.mark.parametrize("text", ["[" * 1_000, "{a: " * 1_000, "- " * 1_000])
def test_what_nests_without_end_is_a_mistake_and_no_crash(text: str):
    with pytest.raises(ConfigError, match="nested too deeply"):
        parse_yaml(text, Mistakes(), "f")


def test_what_the_fast_parser_is_not_trusted_with_is_read_all_the_same():
    depth = 2 * MOST_DEEP
    found = parse_yaml("a: " + "[" * depth + "]" * depth, Mistakes(), "f")

    assert ["a"] == [entry.name for entry in found.entries]
