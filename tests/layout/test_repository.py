"""What is committed makes sense on every machine."""

import pytest

from tests.layout.rules import dead_links, machine_facts, names_a_host
from tests.layout.sources import text_of, tracked


@pytest.mark.parametrize("path", ["requirements.lock", "requirements-dev.lock"])
def test_lock_files_name_no_host(path):
    """They install from whichever index the machine is set up for."""
    assert [] == names_a_host(text_of(path))


def test_the_development_lock_is_a_superset():
    """So that `make run` after `make test` has nothing to install."""
    small, large = (
        {line.split(" ")[0] for line in text_of(path).splitlines() if "==" in line}
        for path in ("requirements.lock", "requirements-dev.lock")
    )

    assert set() == small - large


def test_no_file_knows_a_machine():
    assert [] == [
        complaint for path in tracked() for complaint in machine_facts(path, text_of(path))
    ]


def test_no_link_is_dead():
    pages = [path for path in tracked() if path.endswith(".md")]

    assert [] == [
        complaint for path in pages for complaint in dead_links(path, text_of(path), tracked())
    ]
