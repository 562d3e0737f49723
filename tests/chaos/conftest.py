"""What the tests of chaos share: thousands of jobs, of which only what goes wrong is logged."""

from collections.abc import Iterator

import pytest

from shared.telemetry.log import quiet


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with quiet():
        yield
