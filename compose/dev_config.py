"""The config file that the embedded stack runs with: generated, or a file of yours with additions.

A given file is never touched. The stack runs a copy in its data folder to which it adds what it
needs: the tenant `dev` with its key, webhooks to this machine, and the provider `mock`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from compose.discover import Found
from compose.plain_yaml import read_tree, tree_text
from shared.config.load import load_config
from shared.config.model import Config
from shared.providers.registry import kinds

TENANT = "dev"
MOCK = "mock"
LOOPBACK = ("127.0.0.0/8", "::1/128")
MOCK_PRICE = {"input_per_mtok": "1.00", "output_per_mtok": "2.00"}
"""USD, invented: so that one sees where costs appear."""

_HEAD = """\
# Written by `sluiceway dev` at every start{origin}; changes made here are lost.
# Copy it to ./sluiceway.yaml and change that, or give a file with --config.
"""

Tree = dict[str, Any]


class DevKeys(msgspec.Struct, frozen=True, kw_only=True):
    """The secrets of the tenant `dev`."""

    key: str
    webhook_secret: str


def generated(found: tuple[Found, ...], keys: DevKeys) -> str:
    """Return a config with everything that was found, and with `mock`.

    Of two providers with a model of one name, the first gets the route.
    """
    tree: Tree = {"version": 1, "providers": {one.name: one.entry for one in found}}
    owner = {model: one.name for one in reversed(found) for model in one.models}
    models = dict.fromkeys(model for one in found for model in one.models)
    tree["routes"] = [_route(model, owner[model], model) for model in models]
    return _HEAD.format(origin="") + tree_text(_with_additions(tree, Config(), keys))


def effective(path: Path, env: Mapping[str, str], keys: DevKeys) -> str:
    """Return the text of a given file, its overlay in it, with what dev adds to it.

    Raises:
        ConfigError: the given file is wrong; the lines are its own.
    """
    loaded = load_config(path, env, kinds())
    names = " and ".join(file.name for file in loaded.files)
    origin = _HEAD.format(origin=f" from {names}")
    return origin + tree_text(_with_additions(read_tree(path, env), loaded.config, keys))


def tour_model(config: Config) -> str:
    """Return the first model of a real provider, else `mock`, else the first there is."""
    chat = [
        route
        for route in config.routes
        if not route.model.endswith("*") and "embed" not in route.model
    ]
    for route in chat:
        if config.providers[route.targets[0].provider].kind != MOCK:
            return route.model
    names = [route.model for route in chat]
    return MOCK if MOCK in names or not names else names[0]


def webhook_secret(config: Config) -> str | None:
    """Return what webhooks of the tenant `dev` are signed with."""
    return next((one.webhook_secret for one in config.tenants if one.id == TENANT), None)


def _with_additions(tree: Tree, config: Config, keys: DevKeys) -> Tree:
    """Return the tree with our parts; `config` is what it comes to, without them."""
    webhooks = _mapping(tree, "webhooks")
    allowed = _list(webhooks, "allow_networks")
    more = [one for one in LOOPBACK if one not in config.webhooks.allow_networks]
    return {
        **_with_mock(tree, config),
        **_without_tls(tree),
        "tenants": _tenants(tree, config, keys),
        "webhooks": {**webhooks, "allow_networks": [*allowed, *more]},
    }


def _with_mock(tree: Tree, config: Config) -> Tree:
    """Add the provider and the route, unless the file means something else by the name."""
    providers, routes = _mapping(tree, "providers"), _list(tree, "routes")
    provider = config.providers.get(MOCK)
    if MOCK in config.disabled or (provider is not None and provider.kind != MOCK):
        return tree
    if provider is None:
        providers = {**providers, MOCK: {"kind": MOCK}}
    taken = {name for route in config.routes for name in (route.model, *route.aliases)}
    if MOCK not in taken:
        routes = [*routes, _route(MOCK, MOCK, "mock-1") | {"price": dict(MOCK_PRICE)}]
    return {**tree, "providers": providers, "routes": routes}


def _without_tls(tree: Tree) -> Tree:
    """Return the server's keys without certificates: what stays on this machine needs none."""
    server = _mapping(tree, "server")
    return {"server": {key: server[key] for key in server if key != "tls"}} if server else {}


def _tenants(tree: Tree, config: Config, keys: DevKeys) -> list[Tree]:
    """Return the tenants, `dev` with our key; one that the file has keeps what it says."""
    tenants = _list(tree, "tenants")
    ids = [tenant.id for tenant in config.tenants]
    key = {"name": TENANT, "key": keys.key, "scopes": ["provider_models"]}
    if TENANT not in ids:
        dev = {"id": TENANT, "keys": [key], "webhook_secret": keys.webhook_secret}
        return [*tenants, dev]
    index = ids.index(TENANT)
    given, own = tenants[index], config.tenants[index]
    names = [other.name for other in own.keys]
    while key["name"] in names:
        key["name"] = f"{key['name']}-sluiceway"
    changed = dict(given)
    if not any(other.key == keys.key for other in own.keys):  # a copy of our own file has it
        changed["keys"] = [*_list(given, "keys"), key]
    if own.webhook_secret is None:
        changed["webhook_secret"] = keys.webhook_secret
    return [*tenants[:index], changed, *tenants[index + 1 :]]


def _route(model: str, provider: str, upstream: str) -> Tree:
    return {"model": model, "targets": [{"provider": provider, "model": upstream}]}


def _mapping(tree: Tree, name: str) -> Tree:
    """Return the mapping at a key; one that is absent or empty is a new one."""
    found = tree.get(name)
    return found if isinstance(found, dict) else {}


def _list(tree: Tree, name: str) -> list[Any]:
    found = tree.get(name)
    return found if isinstance(found, list) else []
