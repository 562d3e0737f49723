"""`sluiceway budgets`: how budgets stand, and raises of their limits, from a shell."""

import json

import pytest
from click.testing import CliRunner

from compose.cli import main
from shared.settings import VARIABLES

CONFIG = """
tenants:
- id: acme
  budgets: [{window: month, limit_usd: "12.5"}]
  users: {budgets: [{window: day, limit_usd: 1}]}
budgets: [{match: {}, window: day, limit_usd: 100, action: warn}]
"""


@pytest.fixture
def run(sqlite_url, tmp_path):
    """Run a command on the test's database and config."""
    config = tmp_path / "sluiceway.yaml"
    config.write_text(CONFIG)
    env = {
        **dict.fromkeys(VARIABLES, ""),
        "SLUICEWAY_DATABASE_URL": sqlite_url,
        "SLUICEWAY_DATA_DIR": str(tmp_path),
        "SLUICEWAY_CONFIG": str(config),
    }
    return lambda *arguments: CliRunner().invoke(main, ("budgets", *arguments), env=env)


def test_budgets_are_listed_and_raised(run):
    raised = run("raise", "tenant:acme/month", "2.5", "--for", "2h", "--reason", "launch")
    assert 0 == raised.exit_code, raised.output
    raise_id = raised.stdout.partition(":")[0]

    _, month, user, all_day = run("list").stdout.splitlines()

    assert ["tenant:acme/month", "0", "0", "15", "12.5", "2.5"] == month.split()[:6]
    assert ["user:acme/*/day", "-", "-", "-", "1", "-", "-", "reject"] == user.split()
    assert ("all/day", "warn") == (all_day.split()[0], all_day.split()[-1])
    [shown] = json.loads(run("list", "--json", "--tenant", "acme").stdout)[:1]
    assert [(raise_id, "launch")] == [(one["id"], one["reason"]) for one in shown["raises"]]
    assert f"ended {raise_id}\n" == run("end", "tenant:acme/month", raise_id).stdout
    assert "12.5" == json.loads(run("list", "--json").stdout)[0]["remaining_usd"]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("raise", "tenant:acme/day", "1"), "No budget 'tenant:acme/day'"),
        (("raise", "all/day", "much"), "amount_usd must be an amount"),
        (("end", "all/day", "raise_1"), "has no raise 'raise_1'"),
    ],
)
def test_what_cannot_be_done_is_said(run, arguments, why):
    failed = run(*arguments)

    assert 1 == failed.exit_code
    assert why in failed.stderr
