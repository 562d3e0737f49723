"""Whatever is done to jobs, in whatever order: nothing is lost, doubled, or changed afterwards."""

import os
import shutil
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.chaos.machine import Machine
from tests.services import PostgresServer

EXAMPLES = int(os.environ.get("SLUICEWAY_CHAOS_EXAMPLES", "0"))
"""Runs of the machine, drawn anew each time; without it a few, always the same."""
STEPS = 40


def law(examples: int) -> settings:
    return settings(
        max_examples=EXAMPLES or examples,
        stateful_step_count=STEPS,
        derandomize=not EXAMPLES,
        # To look for the shortest way to a failure takes minutes.
        phases=[Phase.generate, Phase.shrink] if EXAMPLES else [Phase.generate],
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


@pytest.mark.timeout(0 if EXAMPLES else 120)
def test_jobs_on_sqlite(sqlite_url: str, tmp_path: Path):
    numbers, empty = count(1), Path(sqlite_url.removeprefix("sqlite:///"))

    def machine() -> Machine:
        path = tmp_path / f"{next(numbers)}.db"
        shutil.copyfile(empty, path)
        return Machine(f"sqlite:///{path}")

    run_state_machine_as_test(machine, settings=law(10))


@pytest.mark.timeout(0 if EXAMPLES else 120)
def test_jobs_on_postgresql(postgres_server: PostgresServer):
    used: list[str] = []

    def machine() -> Machine:
        for database in used:
            postgres_server.give_back(database)
        used[:] = [postgres_server.take_migrated()]
        return Machine(postgres_server.url(used[0]))

    run_state_machine_as_test(machine, settings=law(3))
    for database in used:
        postgres_server.give_back(database)
