"""Which limits bind which call."""

import pytest

from shared.config.model import (
    Config,
    KeyConfig,
    Limits,
    RouteConfig,
    TargetConfig,
    TenantConfig,
    UserTemplate,
)
from shared.identity import Principal
from shared.limits.scopes import ScopeBook, target_scopes

CONFIG = Config(
    routes=(
        RouteConfig(
            model="m", targets=(TargetConfig(provider="mock", model="m"),), limits=Limits(rpm=4)
        ),
        RouteConfig(model="free", targets=(TargetConfig(provider="mock", model="m"),)),
    ),
    tenants=(
        TenantConfig(
            id="acme",
            keys=(
                KeyConfig(name="ci", key="k1", limits=Limits(rpm=2)),
                KeyConfig(name="app", key="k2", limits=Limits()),
            ),
            limits=Limits(rpm=1),
            users=UserTemplate(limits=Limits(rpm=3)),
        ),
        TenantConfig(id="free", keys=(KeyConfig(name="ci", key="k3"),)),
    ),
)


def asks(tenant_id, key_name):
    return Principal(tenant_id=tenant_id, key_id=f"file:{tenant_id}/{key_name}", key_name=key_name)


@pytest.mark.parametrize(
    ("principal", "route", "user", "expected"),
    [
        (
            asks("acme", "ci"),
            "m",
            "joe",
            {"tenant:acme": 1, "key:file:acme/ci": 2, "user:acme/joe": 3, "route:m": 4},
        ),
        (asks("acme", "ci"), "free", None, {"tenant:acme": 1, "key:file:acme/ci": 2}),
        (asks("acme", "app"), "free", None, {"tenant:acme": 1}),
        (asks("free", "ci"), "m", "joe", {"route:m": 4}),
        (asks("free", "ci"), "free", "joe", {}),
    ],
)
def test_scopes(principal, route, user, expected):
    found = ScopeBook(CONFIG).find(principal, route=route, user=user)

    assert expected == {scope.name: scope.limits.rpm for scope in found}


def target(model="m", credential=None, **limits):
    return TargetConfig(
        provider="mock", model=model, credential=credential, limits=Limits(**limits)
    )


def test_limits_of_targets():
    """One count for a target in all routes that limit it alike; else one for each place."""
    config = Config(
        routes=(
            RouteConfig(model="a", targets=(target(rpm=1), target("free"), target("x", rpm=2))),
            RouteConfig(model="b", targets=(target("x", rpm=3), target(rpm=1))),
            RouteConfig(model="c/*", targets=(target("*", tpd=4), target(credential="k", rpm=5))),
        )
    )

    assert {
        ("a", 0): "target:mock/m",
        ("a", 2): "target:a[2]/mock/x",
        ("b", 0): "target:b[0]/mock/x",
        ("b", 1): "target:mock/m",
        ("c/*", 0): "target:mock/*",
        ("c/*", 1): "target:mock/m@k",
    } == {place: scope.name for place, scope in target_scopes(config).items()}


def test_calls_of_one_key_to_one_route_share_their_scopes():
    """The limiter sums what they take and give back by it; a user's are each call's own."""
    book = ScopeBook(CONFIG)
    first, again, other = (
        book.find(asks("acme", "ci"), route=route) for route in ("m", "m", "free")
    )

    assert first is again
    assert first != other
    assert first == book.find(asks("acme", "ci"), route="m", user="joe")[:-1]
