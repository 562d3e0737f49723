"""The reference pages know every code, setting, metric and event that the code knows."""

from pathlib import PurePosixPath

import pytest

from shared.errors import all_codes
from shared.settings import VARIABLES
from shared.webhooks.event import JOB_EVENTS
from tests.layout.rules import METRICS_HOME, first_cells, metric_names
from tests.layout.sources import ROOT, module_of, text_of, tracked

ADAPTERS = sorted(
    PurePosixPath(path).stem
    for path in tracked()
    if path.startswith("shared/providers/adapters/") and not path.endswith("__init__.py")
)


def test_every_error_code_has_a_row():
    assert set() == all_codes() - first_cells(text_of("docs/reference/errors.md"))


def test_every_row_of_the_error_page_is_a_code():
    assert set() == first_cells(text_of("docs/reference/errors.md")) - all_codes()


def test_every_environment_setting_has_a_row():
    assert set() == VARIABLES.keys() - first_cells(text_of("docs/reference/settings.md"))


def test_every_metric_has_a_row():
    declared = metric_names(module_of(METRICS_HOME, text_of(METRICS_HOME)))

    assert declared
    assert set() == set(declared) - first_cells(text_of("docs/reference/metrics.md"))


def test_every_event_has_a_row():
    assert set() == JOB_EVENTS - first_cells(text_of("docs/reference/events.md"))


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_every_adapter_has_golden_cases(adapter):
    """One folder for each file; the rows of a table share theirs."""
    cases = [path for path in tracked() if path.startswith(f"tests/golden/{adapter}/")]

    assert cases, f"no case in {ROOT.name}/tests/golden/{adapter}/"
