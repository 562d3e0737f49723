"""Whom budgets bind: calls of a tenant, key or user, or those to a route or provider. Pure."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from shared.identity import Principal
from shared.ledger.rule import BudgetRule

Stop = tuple[str, str]
"""A route's name and a provider: where an attempt goes."""


class Place(NamedTuple):
    """Where a call may go; `spare`: only after a failure of some kinds.

    `configured` is the route's name in the file: a wildcard stands for many.
    """

    route: str
    configured: str
    provider: str
    spare: bool = False


class Asked(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a call asks, as far as budgets go by it. `places` are all that it may go to."""

    user: str | None = None
    tags: Mapping[str, str] = {}
    places: Callable[[], Sequence[Place]] = tuple


NOTHING_ASKED = Asked()


class Binding(msgspec.Struct, frozen=True, kw_only=True):
    """A budget and whom it binds: whoever is all that is set.

    `key` is a key's name or id, `route` a route's name; one that ends in `*` means what begins so.
    With `each_user` the rule is a template: each user has a budget of his own.
    """

    rule: BudgetRule
    tenant: str | None = None
    key: str | None = None
    user: str | None = None
    each_user: bool = False
    route: str | None = None
    provider: str | None = None
    tag: tuple[str, str] | None = None

    @property
    def is_fixed(self) -> bool:
        """Whether who asks decides alone."""
        return not (self.asks_user or self.asks_place or self.tag is not None)

    @property
    def asks_user(self) -> bool:
        """Whether a call's user decides."""
        return self.each_user or self.user is not None

    @property
    def asks_place(self) -> bool:
        """Whether it decides where a call goes."""
        return self.route is not None or self.provider is not None

    def binds(self, principal: Principal) -> bool:
        """Return whether calls of the key may be bound."""
        return self.tenant in {None, principal.tenant_id} and (
            self.key is None or self.key in {principal.key_name, principal.key_id}
        )

    def goes_to(self, place: Place) -> bool:
        """Return whether it binds what goes there."""
        return self.provider in {None, place.provider} and (
            self.route is None or _is_named(self.route, place)
        )

    def rule_for(self, user: str | None) -> BudgetRule:
        """Return the rule, of a template the user's own."""
        return self.rule.of_user(user) if self.each_user and user is not None else self.rule


class Bound(msgspec.Struct, frozen=True, kw_only=True):
    """The budgets around one call: those of all its places, and what each place has besides.

    Where nothing depends on the place `apart` is None. `spare` are the places a call has only
    beside others.
    """

    common: tuple[BudgetRule, ...]
    apart: Mapping[Stop, tuple[BudgetRule, ...]] | None = None
    spare: frozenset[Stop] = frozenset()

    @property
    def rules(self) -> tuple[BudgetRule, ...]:
        """All of them, each once."""
        if self.apart is None:
            return self.common
        found = {rule.budget_id: rule for rules in self.apart.values() for rule in rules}
        return (*self.common, *found.values())

    @property
    def has_choice(self) -> bool:
        """Whether a call could do without one of the budgets, by going elsewhere."""
        return self.apart is not None and len(set(self.apart.values())) > 1

    def without(self, budget_id: str) -> "Bound | None":
        """Return what is left when the budget is spent; None when there is no other place."""
        if self.apart is None:
            return None
        left = {
            stop: rules
            for stop, rules in self.apart.items()
            if all(rule.budget_id != budget_id for rule in rules)
        }
        if len(left) == len(self.apart) or not left.keys() - self.spare:
            return None
        return msgspec.structs.replace(self, apart=left)


class Around:
    """The budgets that may bind the calls of one key."""

    def __init__(self, bindings: Sequence[Binding]) -> None:
        self.fixed = tuple(one.rule for one in bindings if one.is_fixed)
        """Those of all its calls."""
        self.bindings = tuple(one for one in bindings if not one.is_fixed)
        """The others."""
        self._users = {one.user for one in self.bindings if one.user is not None}
        self._each_user = any(one.each_user for one in self.bindings)
        self._tags = tuple({one.tag for one in self.bindings if one.tag is not None})
        self._asks_place = any(one.asks_place for one in self.bindings)

    def sort_of(self, asked: Asked) -> Hashable:
        """Return what is the same for calls that the same budgets bind."""
        user = asked.user if self._each_user or asked.user in self._users else None
        tags = tuple(tag for tag in self._tags if asked.tags.get(tag[0]) == tag[1])
        return user, tags, tuple(asked.places()) if self._asks_place else ()

    def bound(self, asked: Asked) -> Bound:
        """Return the budgets around a call."""
        binding = [one for one in self.bindings if _asks(one, asked)]
        common = [one.rule_for(asked.user) for one in binding if not one.asks_place]
        placed = [one for one in binding if one.asks_place]
        apart: dict[Stop, tuple[BudgetRule, ...]] = {}
        spare: set[Stop] = set()
        for place in asked.places() if placed else ():
            stop = place.route, place.provider
            spare |= {stop} if place.spare and stop not in apart else set()
            apart.setdefault(
                stop, tuple(one.rule_for(asked.user) for one in placed if one.goes_to(place))
            )
        everywhere = (*self.fixed, *common)
        if len(set(apart.values())) <= 1:
            only = next(iter(apart.values()), ())
            return Bound(common=(*everywhere, *only))
        return Bound(common=everywhere, apart=apart, spare=frozenset(spare))


def _asks(binding: Binding, asked: Asked) -> bool:
    if binding.each_user and asked.user is None:
        return False
    if binding.user is not None and binding.user != asked.user:
        return False
    return binding.tag is None or asked.tags.get(binding.tag[0]) == binding.tag[1]


def _is_named(name: str, place: Place) -> bool:
    if name.endswith("*") and place.route.startswith(name[:-1]):
        return True
    return name in {place.route, place.configured}
