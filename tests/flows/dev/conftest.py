"""One stack for the tests that only use it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flows.dev.terminal import Dev, running_dev


@pytest.fixture(scope="package")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    """A stack that serves; whoever breaks it lets it mend itself."""
    home: Path = tmp_path_factory.mktemp("dev")
    with running_dev(home) as running:
        yield running.serving()
