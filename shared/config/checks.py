"""What no single value shows: names that must exist, names that must be unique, order. Pure.

Checks see the whole file, mistakes and all: at a path that is wrong already nothing is added.
"""

import re
from collections.abc import Container, Iterable, Sequence

from shared.config.kinds import Kinds
from shared.config.mistakes import Mistakes, joined, suggested
from shared.config.model import BudgetMatch, Config, ProviderConfig, RouteConfig, TenantConfig

SECRET_HEADERS = frozenset({
    "api-key", "authorization", "cookie", "proxy-authorization", "x-api-key", "x-goog-api-key",
})  # fmt: skip
"""What no rule may ask for: a key does not belong into a rule, nor with a job."""


_ORIGIN = re.compile(r"\*|null|[a-z][a-z0-9+.-]*://[^/?#\s]+/?", re.IGNORECASE)


def check(
    config: Config, kinds: Kinds, mistakes: Mistakes, *, disabled: Container[str] = frozenset()
) -> None:
    """Note everything in the file that contradicts itself or names what does not exist.

    `disabled` are providers that lack variables, and so may lack what stands in them.
    """
    _check_providers(config, kinds, disabled, mistakes)
    _check_routes(config, mistakes)
    _check_tenants(config.tenants, mistakes)
    for index, budget in enumerate(config.budgets):
        _check_match(budget.match, config, f"budgets[{index}].match", mistakes)
    for index, origin in enumerate(config.server.cors):
        if not _ORIGIN.fullmatch(origin):
            why = "an origin is scheme://host or scheme://host:port; leave out what follows"
            mistakes.add(f"server.cors[{index}]", why)
    if not config.ledger.enabled and _has_budgets(config):
        mistakes.add("ledger.enabled", "budgets need the ledger: switch it on, or remove them")
    if config.queue.heartbeat_s >= config.queue.lease_s:
        mistakes.add("queue.heartbeat_s", f"must be less than lease_s ({config.queue.lease_s:g})")


def _has_budgets(config: Config) -> bool:
    def of(tenant: TenantConfig) -> bool:
        users = tenant.users is not None and tenant.users.budgets
        return bool(tenant.budgets or users or any(key.budgets for key in tenant.keys))

    routes = any(route.budgets for route in config.routes)
    return bool(config.budgets) or routes or any(map(of, config.tenants))


def _check_providers(
    config: Config, kinds: Kinds, disabled: Container[str], mistakes: Mistakes
) -> None:
    for name, provider in config.providers.items():
        path = joined("providers", name)
        if "/" in name or not name.strip() or any(letter.isspace() for letter in name):
            # "provider/model" is how callers address a provider directly.
            mistakes.add(path, "a provider's name must not be empty or hold / or spaces")
        if provider.kind not in kinds:
            words = suggested(provider.kind, sorted(kinds))
            mistakes.add(joined(path, "kind"), f'no provider kind "{provider.kind}"{words}')
        elif kinds[provider.kind].base_url and not provider.base_url and name not in disabled:
            why = f"is missing: {provider.kind} has no address of its own"
            mistakes.add(joined(path, "base_url"), why)
        if provider.api_key is not None and provider.api_keys:
            mistakes.add(joined(path, "api_keys"), "give api_key or api_keys, not both")
        names = [key.name for key in provider.api_keys]
        _unique(names, f"{path}.api_keys", "name", "a key", mistakes)


def _check_routes(config: Config, mistakes: Mistakes) -> None:
    taken: dict[str, str] = {}
    for index, route in enumerate(config.routes):
        path = f"routes[{index}]"
        places = [(route.model, f"{path}.model")]
        places += [(name, f"{path}.aliases[{n}]") for n, name in enumerate(route.aliases)]
        for name, place in places:
            if "*" in name.removesuffix("*"):
                mistakes.add(place, "may hold * only at its end")
            elif "*" in route.model + name and place != f"{path}.model":
                mistakes.add(place, "neither an alias nor a route that has one may end in *")
            if name in taken:
                mistakes.add(place, f'"{name}" is already the name at {mistakes.spot(taken[name])}')
            taken.setdefault(name, place)
        _check_targets(route, config, path, mistakes)
        if route.retry.max_s < route.retry.base_s:
            mistakes.add(f"{path}.retry.max_s", f"must be at least base_s ({route.retry.base_s:g})")
    for index, route in enumerate(config.routes):
        _check_fallbacks(route, frozenset(taken), f"routes[{index}]", mistakes)
        _check_rules(route, frozenset(taken), f"routes[{index}]", mistakes)


def _check_targets(route: RouteConfig, config: Config, path: str, mistakes: Mistakes) -> None:
    if not route.targets:
        mistakes.add(f"{path}.targets", "needs at least one target")
    for index, target in enumerate(route.targets):
        place = f"{path}.targets[{index}]"
        _known(target.provider, config.providers, "provider", f"{place}.provider", mistakes)
        provider = config.providers.get(target.provider)
        if target.credential is not None and provider is not None:
            known = credential_names(provider)
            _known(target.credential, known, "credential", f"{place}.credential", mistakes)


def credential_names(provider: ProviderConfig) -> tuple[str, ...]:
    """Return the names that a target's `credential` may have: those of `api_keys`, or default."""
    return tuple(key.name for key in provider.api_keys) or ("default",)


def _check_fallbacks(
    route: RouteConfig, known: frozenset[str], path: str, mistakes: Mistakes
) -> None:
    places = [(name, f"{path}.fallbacks[{n}]") for n, name in enumerate(route.fallbacks)]
    for kind, names in route.on_failure.items():
        places += [(name, f"{path}.on_failure.{kind}[{n}]") for n, name in enumerate(names)]
    own = {route.model, *route.aliases}
    for name, place in places:
        if name in own:
            mistakes.add(place, "a route cannot fall back to itself")
        elif "*" in name:
            mistakes.add(place, "a route with * cannot be a fallback: name one model")
        else:
            _known(name, known, "route", place, mistakes)


def _check_rules(route: RouteConfig, known: frozenset[str], path: str, mistakes: Mistakes) -> None:
    for number, rule in enumerate(route.rules):
        place = f"{path}.rules[{number}]"
        if not (rule.when.tags or rule.when.headers or mistakes.below(f"{place}.when")):
            mistakes.add(f"{place}.when", "needs a tag or a header")
        for name in rule.when.headers:
            if name.lower() in SECRET_HEADERS:
                where = joined(f"{place}.when.headers", name)
                mistakes.add(where, "holds a secret: a rule cannot ask for it")
        if rule.route in (route.model, *route.aliases):
            mistakes.add(f"{place}.route", "a rule cannot lead to its own route")
        elif "*" in rule.route:
            mistakes.add(f"{place}.route", "a rule cannot lead to a route with *: name one model")
        else:
            _known(rule.route, known, "route", f"{place}.route", mistakes)


def _check_tenants(tenants: Sequence[TenantConfig], mistakes: Mistakes) -> None:
    _unique([tenant.id for tenant in tenants], "tenants", "id", "a tenant", mistakes)
    owners: dict[str, str] = {}
    for index, tenant in enumerate(tenants):
        path = f"tenants[{index}]"
        if any(letter.isspace() or letter in "/:" for letter in tenant.id):
            mistakes.add(f"{path}.id", "must not hold spaces, / or :")
        _unique([key.name for key in tenant.keys], f"{path}.keys", "name", "a key", mistakes)
        for number, key in enumerate(tenant.keys):
            place = f"{path}.keys[{number}].key"
            if key.key and key.key in owners:
                mistakes.add(place, f"the same key stands at {mistakes.spot(owners[key.key])}")
            owners.setdefault(key.key, place)


def _check_match(match: BudgetMatch, config: Config, path: str, mistakes: Mistakes) -> None:
    """Tenants, keys and users may be of the database; a model with / may need no route."""
    _known(match.provider, config.providers, "provider", f"{path}.provider", mistakes)
    named = {name for route in config.routes for name in (route.model, *route.aliases)}
    wild = tuple(name[:-1] for name in named if name.endswith("*"))
    if match.model is not None and "/" not in match.model and not match.model.startswith(wild):
        _known(match.model, sorted(named), "route", f"{path}.model", mistakes)
    if match.tag is not None and not match.tag.partition("=")[2]:
        mistakes.add(f"{path}.tag", "must be a tag such as team=search")


def _known(
    name: str | None, known: Iterable[str], what: str, path: str, mistakes: Mistakes
) -> None:
    words = list(known)
    if name is not None and name not in words:
        mistakes.add(path, f'no {what} named "{name}"{suggested(name, words)}')


def _unique(names: Sequence[str], path: str, field: str, what: str, mistakes: Mistakes) -> None:
    first: dict[str, int] = {}
    for index, name in enumerate(names):
        if name in first:
            place = mistakes.spot(f"{path}[{first[name]}]")
            mistakes.add(f"{path}[{index}].{field}", f'{place} is already {what} named "{name}"')
        first.setdefault(name, index)
