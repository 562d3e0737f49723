"""What every test shares: the event loop, and the figures at the end of a run."""

import pytest

pytest_plugins = ["tests.figures", "tests.services"]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run async tests on asyncio, as the product does."""
    return "asyncio"
