"""Who is asking."""

import hmac

import msgspec


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant's key that has been checked.

    `scopes` may hold `provider_models`: the key may address `provider/model` without a route.
    """

    tenant_id: str
    key_id: str
    key_name: str
    scopes: frozenset[str] = frozenset()


def key_hash(secret: str, key: str) -> str:
    """Return the keyed hash (HMAC-SHA256, hex) a key is stored and looked up by.

    A stolen table is useless without the secret; keys are random, so no slow hash is needed.
    """
    return hmac.digest(secret.encode(), key.encode(), "sha256").hex()


def file_key_id(tenant_id: str, name: str) -> str:
    """Return the id of a key that stands in the config file."""
    return f"file:{tenant_id}/{name}"
