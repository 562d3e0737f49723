"""What every test shares: the event loop, and the figures at the end of a run."""

import gc

import pytest
from hypothesis import HealthCheck, settings

# Machines are slow at times, and what breaks a law is mostly among the first cases.
settings.register_profile(
    "suite", max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("suite")

pytest_plugins = ["tests.figures", "tests.services"]


def pytest_collection_finish() -> None:
    """Take what was collected from the collector's sight, which would look at it all the time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run async tests on asyncio, as the product does."""
    return "asyncio"
