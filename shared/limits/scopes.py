"""Which limits bind a call: those of its tenant, key, user and route, from the config file.

And which bind its calls to providers: those of targets.
"""

from collections.abc import Iterator, Mapping

from shared.config.model import Config, Limits, TargetConfig
from shared.identity import Principal, file_key_id
from shared.limits.limiter import Scope

MOST_FOUND = 10_000
"""Callers and routes whose scopes are kept together; keys come and go."""


class ScopeBook:
    """The scopes of a config, looked up by who asks for what.

    Keys made by `sluiceway keys` stand under their tenant's limits only. Calls of one key to one
    route are given the same tuple, by which a limiter knows them.
    """

    def __init__(self, config: Config) -> None:
        self._tenants = {
            tenant.id: scope
            for tenant in config.tenants
            for scope in _bounded(f"tenant:{tenant.id}", tenant.limits)
        }
        self._keys = {
            file_key_id(tenant.id, key.name): scope
            for tenant in config.tenants
            for key in tenant.keys
            for scope in _bounded(f"key:{file_key_id(tenant.id, key.name)}", key.limits)
        }
        self._users = {
            tenant.id: scope.limits
            for tenant in config.tenants
            if tenant.users is not None
            for scope in _bounded("", tenant.users.limits)
        }
        self._routes = {
            route.model: scope
            for route in config.routes
            for scope in _bounded(f"route:{route.model}", route.limits)
        }
        self._found: dict[tuple[str, str, str], tuple[Scope, ...]] = {}

    def find(
        self, principal: Principal, *, route: str, user: str | None = None
    ) -> tuple[Scope, ...]:
        """Return the scopes that bind the call; empty when nothing is limited.

        `route` is the route's name in the file, not the alias or model that was asked for.
        """
        key = (principal.tenant_id, principal.key_id, route)
        found = self._found.get(key)
        if found is None:
            if len(self._found) >= MOST_FOUND:
                self._found.clear()
            found = self._found[key] = self._of(*key)
        limits = None if user is None else self._users.get(principal.tenant_id)
        if limits is None:
            return found
        return (*found, Scope(name=f"user:{principal.tenant_id}/{user}", limits=limits))

    def _of(self, tenant_id: str, key_id: str, route: str) -> tuple[Scope, ...]:
        bound = (self._tenants.get(tenant_id), self._keys.get(key_id), self._routes.get(route))
        return tuple(scope for scope in bound if scope is not None)


def target_scopes(config: Config) -> Mapping[tuple[str, int], Scope]:
    """Return the limits of targets by their route's name and their place in it.

    A target is one target in every route: where routes give it the same limits these are one
    count. Limits that differ are counts of their own, each named by its place.
    """
    found = list(_limited_targets(config))
    given: dict[str, set[Limits]] = {}
    for _, name, limits in found:
        given.setdefault(name, set()).add(limits)
    return {
        (route, number): Scope(
            name=f"target:{name}" if len(given[name]) == 1 else f"target:{route}[{number}]/{name}",
            limits=limits,
        )
        for (route, number), name, limits in found
    }


def _limited_targets(config: Config) -> Iterator[tuple[tuple[str, int], str, Limits]]:
    for route in config.routes:
        for number, target in enumerate(route.targets):
            for scope in _bounded(_target_name(target), target.limits):
                yield (route.model, number), scope.name, scope.limits


def _target_name(target: TargetConfig) -> str:
    """Return the target as the file names it: a wildcard's models are without number."""
    credential = "" if target.credential is None else f"@{target.credential}"
    return f"{target.provider}/{target.model}{credential}"


def _bounded(name: str, limits: Limits | None) -> list[Scope]:
    if limits is None or limits == Limits():
        return []
    return [Scope(name=name, limits=limits)]
