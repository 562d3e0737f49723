"""A route's rules: where a call goes instead, by its tags and headers. Pure."""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from shared.config.model import RouteConfig
from shared.config.rules import RouteRule

ANY = "*"
"""Stands for any value, an empty one too."""

Pairs = tuple[tuple[str, str], ...]


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """A rule as it is matched; the names of its headers are in lower case.

    `place` counts the rules of its route in the file, from 0. `route` is the other route's model.
    """

    place: int
    route: str
    tags: Pairs = ()
    headers: Pairs = ()


def compile_rules(entries: Sequence[RouteRule], models: Mapping[str, str]) -> tuple[Rule, ...]:
    """Return the rules in the file's order, but for those that lead to a route which is off.

    `models` are the models of routes by their names, aliases among them.
    """
    return tuple(
        Rule(
            place=place,
            route=models[entry.route],
            tags=tuple(entry.when.tags.items()),
            headers=tuple((name.lower(), value) for name, value in entry.when.headers.items()),
        )
        for place, entry in enumerate(entries)
        if entry.route in models
    )


def header_names(routes: Iterable[RouteConfig]) -> tuple[bytes, ...]:
    """Return the headers that any rule asks for, in lower case, each once."""
    rules = (rule for route in routes for rule in route.rules)
    names = dict.fromkeys(name.lower().encode() for rule in rules for name in rule.when.headers)
    return tuple(names)


def first_match(
    rules: Iterable[Rule], tags: Mapping[str, str], headers: Mapping[str, str]
) -> Rule | None:
    """Return the first rule whose every entry is met; `headers` have names in lower case."""
    for rule in rules:
        if _met(rule.tags, tags) and _met(rule.headers, headers):
            return rule
    return None


def _met(wanted: Pairs, given: Mapping[str, str]) -> bool:
    return all(name in given and (value == ANY or given[name] == value) for name, value in wanted)
