"""What every test shares: the event loop, and the figures at the end of a run."""

import pytest
from hypothesis import HealthCheck, settings

# Machines are slow at times, and a law that holds for fifty cases mostly holds for a hundred.
settings.register_profile(
    "suite", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("suite")

pytest_plugins = ["tests.figures", "tests.services"]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run async tests on asyncio, as the product does."""
    return "asyncio"
