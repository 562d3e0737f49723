"""Which budgets are around a call: whoever makes it, wherever it goes."""

import msgspec
import pytest

from shared.config.model import Config, MatchedBudget
from shared.identity import Principal, file_key_id
from shared.ledger.binding import Asked, Place
from shared.ledger.budgets import BudgetTable

CONFIG = msgspec.convert(
    {
        "providers": {"p": {"kind": "mock"}, "q": {"kind": "mock"}},
        "routes": [
            {
                "model": "m",
                "aliases": ["alias"],
                "targets": [{"provider": "p", "model": "x"}],
                "budgets": [{"window": "day", "limit_usd": "1"}],
            },
            {"model": "open/*", "targets": [{"provider": "p", "model": "*"}]},
        ],
        "tenants": [
            {
                "id": "acme",
                "keys": [
                    {"name": "ci", "key": "k", "budgets": [{"window": "day", "limit_usd": "1"}]}
                ],
                "budgets": [{"window": "month", "limit_usd": "1"}],
                "users": {"budgets": [{"window": "day", "limit_usd": "1"}]},
            }
        ],
        "budgets": [
            {"match": match, "window": "day", "limit_usd": "2"}
            for match in (
                {},
                {"tenant": "acme"},
                {"key": "ci"},
                {"tenant": "acme", "user": "bob"},
                {"model": "alias"},
                {"model": "open/*"},
                {"provider": "q"},
                {"tag": "team=search"},
                {"tenant": "acme", "provider": "p", "tag": "team=ads"},
            )
        ],
    },
    Config,
)
TABLE = BudgetTable(CONFIG)
M_AT_P = Place("m", "m", "p")
M_AT_Q = Place("m", "m", "q")
OPEN_AT_P = Place("open/gpt", "open/*", "p")


def key(tenant: str, name: str, own_id: str | None = None) -> Principal:
    return Principal(tenant_id=tenant, key_id=own_id or file_key_id(tenant, name), key_name=name)


def bound(principal: Principal, *places: Place, **asked):
    return TABLE.bound(principal, Asked(places=lambda: places, **asked))


def ids(rules) -> list[str]:
    return [rule.budget_id for rule in rules]


@pytest.mark.parametrize(
    ("principal", "asked", "expected"),
    [
        (key("other", "x"), {}, ["all/day"]),
        (
            key("acme", "x"),
            {},
            ["tenant:acme/month", "all/day", "tenant:acme/day"],
        ),
        (
            key("acme", "ci"),
            {},
            ["tenant:acme/month", "key:acme/ci/day", "all/day", "tenant:acme/day", "key:ci/day"],
        ),
        # A key that was made with `keys create`: by its name.
        (key("other", "ci", "key_1"), {}, ["all/day", "key:ci/day"]),
        (
            key("acme", "x"),
            {"user": "ann"},
            ["tenant:acme/month", "all/day", "tenant:acme/day", "user:acme/ann/day"],
        ),
        (
            key("acme", "x"),
            {"user": "bob"},
            [
                "tenant:acme/month", "all/day", "tenant:acme/day", "user:acme/bob/day",
                "tenant:acme,user:bob/day",
            ],
        ),
        (key("other", "x"), {"user": "bob"}, ["all/day"]),
        (
            key("other", "x"),
            {"tags": {"team": "search", "a": "b"}},
            ["all/day", "tag:team=search/day"],
        ),
        (key("other", "x"), {"tags": {"team": "ads"}}, ["all/day"]),
    ],
)  # fmt: skip
def test_who_asks_decides(principal, asked, expected):
    assert expected == ids(bound(principal, **asked).rules)


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        (M_AT_P, ["route:m/day", "model:m/day"]),
        (M_AT_Q, ["route:m/day", "model:m/day", "provider:q/day"]),
        (OPEN_AT_P, ["model:open/*/day"]),
        (Place("open/gpt", "open/gpt", "z"), ["model:open/*/day"]),
        (Place("n", "n", "p"), []),
    ],
)
def test_where_it_goes_decides(place, expected):
    expected = [one.replace("model:m/", "model:alias/") for one in expected]

    assert ["all/day", *expected] == ids(bound(key("other", "x"), place).rules)


def test_all_that_a_match_names_must_be_so():
    wanted = "tenant:acme,provider:p,tag:team=ads/day"
    tags = {"team": "ads"}

    assert wanted in ids(bound(key("acme", "x"), M_AT_P, tags=tags).rules)
    assert wanted not in ids(bound(key("acme", "x"), M_AT_P).rules)
    assert wanted not in ids(bound(key("acme", "x"), M_AT_Q, tags=tags).rules)
    assert wanted not in ids(bound(key("other", "x"), M_AT_P, tags=tags).rules)


def test_places_that_differ_have_budgets_of_their_own():
    """A call that may go to two providers is bound by both; an attempt by its own provider."""
    found = bound(key("other", "x"), M_AT_P, M_AT_Q)

    assert ["all/day"] == ids(found.common)
    assert {("m", "p"): 2, ("m", "q"): 3} == {at: len(rules) for at, rules in found.apart.items()}
    assert ["all/day", "route:m/day", "model:alias/day", "provider:q/day"] == ids(found.rules)


def test_a_spent_budget_closes_its_places_as_long_as_there_are_others():
    found = bound(key("other", "x"), M_AT_P, M_AT_Q)

    assert {("m", "p")} == found.without("provider:q/day").apart.keys()
    assert found.without("all/day") is None
    assert found.without("route:m/day") is None
    assert found.without("provider:q/day").without("provider:q/day") is None


def test_what_is_tried_only_after_some_failures_is_no_other_place():
    found = bound(key("other", "x"), M_AT_Q, M_AT_P._replace(spare=True))

    assert found.without("provider:q/day") is None


def test_places_of_one_kind_are_one():
    found = bound(key("other", "x"), M_AT_P, M_AT_P._replace(spare=True))

    assert found.apart is None


@pytest.mark.parametrize(
    "user", ["bob", "a/b", "über", "*", "a b", "x" * 500, "\x00", "", "\ud800", "sha256:bob"]
)
def test_a_user_s_budget_is_found_again_by_its_id(user):
    """Users call themselves what they like; no two of them share a budget."""
    [*_, rule] = bound(key("acme", "x"), user=user).rules[:4]

    assert rule == TABLE.rule(rule.budget_id)
    assert 200 > len(rule.budget_id.encode())
    assert rule.budget_id.startswith("user:acme/")


def test_no_two_users_share_a_budget():
    users = ["bob", "sha256:bob", "\x00", "\x01", "x" * 500, "x" * 501, ""]

    found = {bound(key("acme", "x"), user=user).rules[3].budget_id for user in users}

    assert len(users) == len(found)


def test_a_user_of_all_tenants_shares_no_budget_with_a_tenant_s_user():
    matched = [
        {"match": {"user": user}, "window": "day", "limit_usd": "1"}
        for user in ("acme/ann", "acme%2Fann")
    ]
    table = BudgetTable(
        msgspec.structs.replace(
            CONFIG, budgets=msgspec.convert(matched, type=tuple[MatchedBudget, ...])
        )
    )
    [template] = [one.rule for one in table.bindings if one.each_user]
    found = {one.rule.budget_id for one in table.bindings if one.user is not None}

    assert {"user:acme%2Fann/day", "user:acme%252Fann/day"} == found
    assert "user:acme/ann/day" == template.of_user("ann").budget_id
    assert all(table.rule(one).budget_id == one for one in found)


def test_budgets_are_found_by_their_ids():
    for one in TABLE.bindings:
        found = TABLE.rule(one.rule.budget_id)
        assert (None if one.each_user else one.rule) == found
    assert TABLE.rule("user:acme/ann/month") is None
    assert TABLE.rule("user:other/ann/day") is None
    assert TABLE.rule("nonsense") is None


def test_calls_of_one_sort_have_the_same_budgets():
    around = TABLE.around(key("other", "x"))

    def sort(**asked):
        return around.sort_of(Asked(**asked))

    assert sort(user="ann", tags={"a": "b"}) == sort(), "no budget of this key goes by these"
    assert sort(tags={"team": "search"}) != sort()
    assert sort(places=lambda: [M_AT_P]) != sort(places=lambda: [M_AT_Q])
    assert TABLE.around(key("acme", "x")).sort_of(Asked(user="ann")) != sort()
