"""Whom the budgets of a config bind."""

from datetime import UTC, datetime

from shared.config.model import Budget, Config, KeyConfig, RouteConfig, TenantConfig, Timeouts
from shared.errors import BudgetExceeded
from shared.identity import Principal, file_key_id
from shared.ledger.budgets import BudgetTable, longest_call_s

NOON = datetime(2026, 3, 5, 12, tzinfo=UTC)
CONFIG = Config(
    tenants=(
        TenantConfig(
            id="acme",
            keys=(
                KeyConfig(name="ci", key="k1", budgets=(Budget(window="month", limit_usd="0.5"),)),
                KeyConfig(name="web", key="k2"),
            ),
            budgets=(
                Budget(window="day", limit_usd="50", action="warn"),
                Budget(window="day", limit_usd="60.000000001", timezone="Europe/Berlin"),
            ),
        ),
        TenantConfig(id="free"),
    )
)


def principal(tenant_id: str, key_name: str) -> Principal:
    key_id = file_key_id(tenant_id, key_name)
    return Principal(tenant_id=tenant_id, key_id=key_id, key_name=key_name)


def test_a_key_has_its_tenant_s_budgets_and_its_own():
    table = BudgetTable(CONFIG)

    rules = table.of(principal("acme", "ci"))

    assert [
        ("tenant:acme/day", 50_000_000_000, False),
        ("tenant:acme/day-2", 60_000_000_001, True),
        ("key:acme/ci/month", 500_000_000, True),
    ] == [(rule.budget_id, rule.limit_nanousd, rule.rejects) for rule in rules]
    assert rules[:2] == table.of(principal("acme", "web"))
    assert rules[:2] == table.of(principal("acme", "one of the database"))
    assert () == table.of(principal("free", "any"))


def test_a_config_without_budgets_has_an_empty_table():
    assert not BudgetTable(Config(tenants=(TenantConfig(id="free"),)))
    assert BudgetTable(CONFIG)


def test_a_refusal_says_whose_budget_and_until_when():
    _, rule, _ = BudgetTable(CONFIG).of(principal("acme", "ci"))

    refusal = rule.exceeded(rule.period_at(NOON).ends_at)

    assert isinstance(refusal, BudgetExceeded)
    assert "tenant:acme/day-2" == refusal.limit_source
    assert datetime(2026, 3, 5, 23, tzinfo=UTC).timestamp() == refusal.resets_at


def test_the_longest_call_is_the_longest_route_s():
    routes = [
        RouteConfig(model=str(total_s), targets=(), timeouts=Timeouts(total_s=total_s))
        for total_s in (5.0, 900.0)
    ]

    assert 900.0 == longest_call_s(Config(routes=tuple(routes)))
    assert 600.0 == longest_call_s(Config())
