"""Rules of routes: where a call goes instead, by what its caller says of it."""

# ruff: noqa: RUF012 (msgspec copies an empty default for every Struct)

from shared.config.section import PublicHeaders, Section


class RuleMatch(Section, frozen=True, kw_only=True):
    """What a call must have, at least one thing; every entry must match."""

    tags: dict[str, str] = {}
    """Tags of `X-Sluiceway-Tags` with their values. `*` is any value."""
    headers: PublicHeaders = {}
    """Headers of the request, their names in any case, with their values. `*` is any value. Those
    that hold keys or cookies cannot be asked for."""


class RouteRule(Section, frozen=True, kw_only=True):
    """Calls that match go to another route."""

    when: RuleMatch
    """What such a call has, a tag or a header at least; every entry must match."""
    route: str
    """The route that serves it, by its model or an alias, with its own targets, limits, budgets and
    times. The rules of that one are not followed."""
