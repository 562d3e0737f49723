"""The budgets of a config, by whom they bind. Pure."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

from shared.config.model import Budget, BudgetMatch, Config
from shared.identity import Principal, file_key_id
from shared.ledger.binding import Around, Asked, Binding, Bound
from shared.ledger.rule import EACH, BudgetRule, rule_of
from shared.store.records import BudgetRef

__all__ = ["BudgetRef", "BudgetRule", "BudgetTable", "longest_call_s", "open_starts"]

MOST_KEYS = 10_000
"""Keys of which a table remembers what binds them; those of the database are without number."""


class BudgetTable:
    """Every budget of a config.

    Ids begin with whose it is (`tenant:acme/day`, `key:acme/ci/day`, `user:acme/bob/day`,
    `route:gpt-4o/day`) or, of a top-level budget, with what it matches
    (`tenant:acme,model:gpt-4o/day`, `all/day`).
    """

    def __init__(self, config: Config) -> None:
        self.bindings = tuple(_bindings(config))
        self._by_id = {one.rule.budget_id: one for one in self.bindings}
        self._around: dict[tuple[str, str, str], Around] = {}

    def around(self, principal: Principal) -> Around:
        """Return the budgets that may bind a key's calls."""
        who = principal.tenant_id, principal.key_id, principal.key_name
        known = self._around.get(who)
        if known is None:
            if len(self._around) >= MOST_KEYS:
                self._around.clear()
            found = [one for one in self.bindings if one.binds(principal)]
            known = self._around[who] = Around(found)
        return known

    def of(self, principal: Principal) -> tuple[BudgetRule, ...]:
        """Return the budgets around all calls of a key, whatever they ask."""
        return self.around(principal).fixed

    def bound(self, principal: Principal, asked: Asked) -> Bound:
        """Return the budgets around one call."""
        return self.around(principal).bound(asked)

    def rule(self, budget_id: str) -> BudgetRule | None:
        """Return the budget of that id, also a user's own; None when the config has none such."""
        if (known := self._by_id.get(budget_id)) is not None:
            return None if known.each_user else known.rule
        owner, _, window = budget_id.rpartition("/")
        tenant, _, user = owner.partition("/")
        template = self._by_id.get(f"{tenant}/{EACH}/{window}")
        if template is None or not template.each_user:
            return None
        return template.rule.with_word(user)

    def __bool__(self) -> bool:
        return bool(self.bindings)


def open_starts(config: Config, now: datetime) -> frozenset[datetime]:
    """Return when the windows of the config's budgets began that are open at a moment."""
    return frozenset(one.rule.period_at(now).starts_at for one in _bindings(config))


def longest_call_s(config: Config) -> float:
    """Return how long any call may last, in seconds: the longest total of the routes."""
    return max((route.timeouts.total_s for route in config.routes), default=600.0)


class _Ids:
    """Gives out ids; of one owner and window the second has `-2`."""

    def __init__(self) -> None:
        self._seen = Counter[str]()

    def rule(self, owner: str, tenant_id: str | None, budget: Budget) -> BudgetRule:
        own_id = f"{owner}/{budget.window}"
        self._seen[own_id] += 1
        number = self._seen[own_id]
        return rule_of(own_id + (f"-{number}" if number > 1 else ""), tenant_id, budget)


def _bindings(config: Config) -> Iterator[Binding]:
    """Name them all: a tenant's come first, then those of keys, users and routes."""
    ids = _Ids()
    for tenant in config.tenants:
        owner = f"tenant:{tenant.id}"
        for budget in tenant.budgets:
            yield Binding(rule=ids.rule(owner, tenant.id, budget), tenant=tenant.id)
    for tenant in config.tenants:
        for key in tenant.keys:
            for budget in key.budgets:
                rule = ids.rule(f"key:{tenant.id}/{key.name}", tenant.id, budget)
                own_id = file_key_id(tenant.id, key.name)
                yield Binding(rule=rule, tenant=tenant.id, key=own_id)
        for budget in () if tenant.users is None else tenant.users.budgets:
            rule = ids.rule(f"user:{tenant.id}/{EACH}", tenant.id, budget)
            yield Binding(rule=rule, tenant=tenant.id, each_user=True)
    for route in config.routes:
        for budget in route.budgets:
            yield Binding(rule=ids.rule(f"route:{route.model}", None, budget), route=route.model)
    named = {alias: route.model for route in config.routes for alias in route.aliases}
    for matched in config.budgets:
        match = matched.match
        rule = ids.rule(_owner(match), match.tenant, matched)
        yield _matching(rule, match, named)


def _owner(match: BudgetMatch) -> str:
    fields: Iterable[tuple[str, str | None]] = (
        (name, getattr(match, name)) for name in match.__struct_fields__
    )
    named = [(name, value) for name, value in fields if value is not None]
    if named and named[0][0] == "user":
        # As it is, the budget of a user `acme/ann` would be that of the tenant acme's user ann.
        named[0] = "user", named[0][1].replace("%", "%25").replace("/", "%2F")
    return ",".join(f"{name}:{value}" for name, value in named) or "all"


def _matching(rule: BudgetRule, match: BudgetMatch, named: Mapping[str, str]) -> Binding:
    tag = None
    if match.tag is not None:
        name, _, value = match.tag.partition("=")
        tag = name, value
    return Binding(
        rule=rule,
        tenant=match.tenant,
        key=match.key,
        user=match.user,
        route=None if match.model is None else named.get(match.model, match.model),
        provider=match.provider,
        tag=tag,
    )
