"""What every test shares: the event loop, and the figures at the end of a run."""

import gc

import pytest
import structlog
from hypothesis import HealthCheck, settings

# Machines are slow at times, and what breaks a law is mostly among the first cases.
settings.register_profile(
    "suite", max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("suite")

# Until a test sets up a log of its own. Structlog's usual tracebacks take a tenth of a second each.
structlog.configure(
    processors=[
        structlog.processors.add_log_level,
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
    ]
)

gc.disable()  # until all is collected: next to nothing of that is garbage

pytest_plugins = ["tests.figures", "tests.services"]


def pytest_collection_finish() -> None:
    """Take what was collected from the collector's sight, which would look at it all the time."""
    gc.collect()
    gc.freeze()
    gc.enable()
    gc.set_threshold(20_000, 50, 50)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run async tests on asyncio and uvloop, as the product does."""
    return "asyncio", {"use_uvloop": True}
