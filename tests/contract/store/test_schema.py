"""The schema: what the migrations build is what the tables say, from a wheel too."""

import asyncio
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from shared.errors import StoreUnavailable
from shared.store import money_tables, side_tables
from shared.store.schema import MIGRATIONS, is_current, migrate
from shared.store.tables import REVISION, metadata
from shared.store.urls import parse_store_url

__all__ = ["money_tables", "side_tables"]  # importing them adds their tables to the metadata

ROOT = Path(__file__).parents[3]
REVISIONS = [f"{number:04d}" for number in range(1, int(REVISION) + 1)]


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/not/there/yet.db"
    return request.getfixturevalue("empty_postgres_url")


def test_tables_and_migrations_agree(store_url):
    """Whoever changes a table without a migration, or the reverse, hears of it here."""
    engine = sa.create_engine(parse_store_url(store_url).for_blocking())
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        differences = compare_metadata(context, metadata)
        partial = {
            index["name"]: bool(index.get("dialect_options"))
            for table in metadata.tables
            for index in sa.inspect(connection).get_indexes(table)
        }
    engine.dispose()

    assert [] == differences
    assert {"ix_job_claim", "ix_job_lease", "ix_delivery_due", "ix_ledger_job"} <= {
        name for name, has_condition in partial.items() if has_condition
    }


def test_the_ledgers_columns_stand_in_the_tables_own_order(store_url):
    """SQLite writes a row's values faster if they come in that order."""
    engine = sa.create_engine(parse_store_url(store_url).for_blocking())
    with engine.connect() as connection:
        found = [column["name"] for column in sa.inspect(connection).get_columns("ledger")]
    engine.dispose()

    assert found == [column.name for column in money_tables.ledger.c]


@pytest.mark.parametrize(
    "query",
    [
        "FROM ledger WHERE job_id = 'job_1'",
        "FROM job JOIN ledger ON ledger.job_id = job.id WHERE job.batch_id = 'batch_1'",
        "FROM job LEFT JOIN ledger ON ledger.job_id = job.id AND ledger.outcome = 'succeeded'",
    ],
)
def test_a_jobs_calls_are_found_by_the_index_that_leaves_all_others_out(store_url, query):
    parsed = parse_store_url(store_url)
    engine = sa.create_engine(parsed.for_blocking())
    explain = "EXPLAIN QUERY PLAN"
    with engine.connect() as connection:
        if parsed.backend == "postgresql":  # with no rows it takes any way that is left
            explain = "EXPLAIN"
            for way in ("seqscan", "hashjoin", "mergejoin"):
                connection.exec_driver_sql(f"SET enable_{way} = off")
        plan = connection.exec_driver_sql(
            f"{explain} SELECT sum(ledger.cost_nanousd) {query}"
        ).all()
    engine.dispose()

    assert any("ix_ledger_job" in row[-1] for row in plan)


def test_the_newest_migration_is_the_one_servers_ask_for():
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")

    assert REVISION == ScriptDirectory.from_config(config).get_current_head()


def test_migrating_says_what_it_did_and_does_it_once(empty_url):
    assert not is_current(empty_url)
    assert REVISIONS == migrate(empty_url)
    assert is_current(empty_url)
    assert [] == migrate(empty_url)


async def test_two_migrations_at_once_apply_everything_once(empty_url):
    done = await asyncio.gather(*(asyncio.to_thread(migrate, empty_url) for _ in range(3)))

    assert [[], [], REVISIONS] == sorted(done)


def test_a_newer_database_is_left_alone(store_url):
    engine = sa.create_engine(parse_store_url(store_url).for_blocking())
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()

    assert is_current(store_url)
    assert [] == migrate(store_url)


@pytest.mark.parametrize("call", [migrate, is_current])
def test_a_database_that_is_away_says_so(call):
    with pytest.raises(StoreUnavailable):
        call("postgresql://u@/x?host=/nowhere")


def test_an_installed_wheel_can_migrate(tmp_path):
    """The migrations are in the wheel, and need neither alembic.ini nor the repository."""
    built = tmp_path / "built"
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(built)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]);"
        "from shared.store import schema; print(schema.__file__, schema.migrate(sys.argv[2]))"
    )
    ran = subprocess.run(
        [sys.executable, "-P", "-c", program, tmp_path / "installed", f"sqlite:///{tmp_path}/w.db"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )

    assert f"{tmp_path}/installed/shared/store/schema.py {REVISIONS}" == ran.stdout.strip()
