"""`sluiceway ledger`: the books from a shell."""

import asyncio
import json

import pytest
from click.testing import CliRunner

from compose.cli import main
from shared.ledger.settle import write_charges
from shared.settings import VARIABLES
from shared.store.engine import open_store
from tests.contract.ledger.test_verify import make_charge

CONFIG = """
version: 1
providers: {p: {kind: mock}}
routes:
  - model: m
    targets: [{provider: p, model: pm}]
    price: {input_per_mtok: "1", output_per_mtok: "2"}
  - model: any/*
    targets: [{provider: p, model: "*"}]
    price: {input_per_mtok: "3", output_per_mtok: "2"}
"""


@pytest.fixture
def run(sqlite_url, tmp_path):
    """Run a command on a database with one call in it."""
    (tmp_path / "sluiceway.yaml").write_text(CONFIG)
    env = {
        **dict.fromkeys(VARIABLES, ""),
        "SLUICEWAY_CONFIG": str(tmp_path / "sluiceway.yaml"),
        "SLUICEWAY_DATABASE_URL": sqlite_url,
        "SLUICEWAY_DATA_DIR": str(tmp_path),
    }

    async def write() -> None:
        store = await open_store(sqlite_url)
        async with store.write() as tx:
            await write_charges(tx, [make_charge("att_1", budgets=())])
        await store.close()

    asyncio.run(write())
    return lambda *arguments: CliRunner().invoke(main, ("ledger", *arguments), env=env)


@pytest.fixture
def plant(sqlite_url):
    """Change the database behind everybody's back."""

    def plant(statement: str) -> None:
        async def write() -> None:
            store = await open_store(sqlite_url)
            async with store.write() as tx:
                await tx.connection.exec_driver_sql(statement)
            await store.close()

        asyncio.run(write())

    return plant


def test_books_that_agree_end_with_0(run, plant):
    plant("UPDATE ledger SET ended_at = 4102444800000000")  # nobody closes hours here

    done = run("verify")

    assert (0, "compared 1 row: the books agree\n") == (done.exit_code, done.output)


def test_each_fault_has_its_line_and_the_end_is_1(run, plant):
    """By the config's own price, found through its routes."""
    plant("UPDATE ledger SET cost_nanousd = 5, ended_at = 4102444800000000")

    done = run("verify")
    told = json.loads(run("verify", "--json").stdout)

    expected = "cost_off att_1: cost 0.000000005 USD, its rows say 2 USD"
    assert [expected, "sluiceway: compared 1 row: 1 fault"] == done.output.splitlines()
    assert 1 == done.exit_code
    assert ["cost_off"] == [fault["kind"] for fault in told["faults"]]


@pytest.mark.parametrize("since", ["1d", "2026-03-06", "2026-03-06T00:00:00Z"])
def test_what_is_older_is_left_alone(run, plant, since):
    plant("UPDATE ledger SET cost_nanousd = 5")

    done = run("verify", "--since", since)

    assert (0, "compared 0 rows: the books agree\n") == (done.exit_code, done.output)


def test_a_cost_is_put_right(run):
    done = run("adjust", "att_1", "--usd", "-0.5", "--reason", "credited", "--key", "c1")
    again = run("adjust", "att_1", "--usd", "-0.5", "--reason", "credited", "--key", "c1")

    assert done.stdout.endswith(": att_1 costs 1.5 USD now\n")
    assert done.stdout == again.stdout


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("att_9", "--usd", "1", "--reason", "x"), "no attempt 'att_9'"),
        (("att_1", "--usd", "much", "--reason", "x"), "must be an amount"),
        (("att_1", "--usd", "-5", "--reason", "x"), "less than nothing"),
    ],
)
def test_what_cannot_be_is_said(run, arguments, word):
    done = run("adjust", *arguments)

    assert 1 == done.exit_code
    assert word in done.output
