"""Who is asking."""

import hmac

import msgspec


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant's key that has been checked.

    `scopes` may hold `provider_models`: the key may address `provider/model` without a route.
    `models` are the only ones it may ask for, by name or by what stands before a `*`; empty: all.
    """

    tenant_id: str
    key_id: str
    key_name: str
    scopes: frozenset[str] = frozenset()
    models: tuple[str, ...] = ()

    def may_ask(self, *names: str) -> bool:
        """Return whether the key may ask for a model that goes by any of these names."""
        return not self.models or any(_means(one, name) for one in self.models for name in names)


MODEL_SCOPE = "model:"
"""Begins the scopes that stand for `models` where a key is stored."""


def _means(pattern: str, name: str) -> bool:
    if pattern.endswith("*"):
        return name.startswith(pattern[:-1])
    return pattern == name


def key_hash(secret: str, key: str) -> str:
    """Return the keyed hash (HMAC-SHA256, hex) a key is stored and looked up by.

    A stolen table is useless without the secret; keys are random, so no slow hash is needed.
    """
    return hmac.digest(secret.encode(), key.encode(), "sha256").hex()


FILE_KEYS = "file:"
"""How the ids of the config file's keys begin; the tenant and a slash follow."""


def file_key_id(tenant_id: str, name: str) -> str:
    """Return the id of a key that stands in the config file."""
    return f"{FILE_KEYS}{tenant_id}/{name}"
