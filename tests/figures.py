"""A pytest plugin: says how much was collected and skipped, and lets no skip pass in CI."""

import os
from collections.abc import Generator

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_sessionfinish(session: pytest.Session) -> Generator[None]:
    """Turn a green run into a failed one when CI skipped something."""
    reporter = _reporter(session.config)
    if reporter is not None and "true" == os.environ.get("CI") and _skipped(reporter):
        session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED
    return (yield)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print one line of figures above pytest's own closing line."""
    skipped = _skipped(terminalreporter)
    collected = sum(len(_counted(terminalreporter, kind)) for kind in _OUTCOMES)
    terminalreporter.write_line(f"collected: {collected}, skipped: {skipped}")
    if skipped and "true" == os.environ.get("CI"):
        terminalreporter.write_line("In CI a skipped test counts as a failure.", red=True)


_OUTCOMES = ("passed", "failed", "error", "skipped", "xfailed", "xpassed")


def _reporter(config: pytest.Config) -> pytest.TerminalReporter | None:
    """Return the reporter; there is none in a worker of pytest-xdist."""
    return config.pluginmanager.get_plugin("terminalreporter")


def _counted(reporter: pytest.TerminalReporter, kind: str) -> list[object]:
    # A test that fails and then fails again in its teardown is listed twice, under two kinds.
    return [
        report
        for report in reporter.stats.get(kind, [])
        if getattr(report, "count_towards_summary", True)
    ]


def _skipped(reporter: pytest.TerminalReporter) -> int:
    return len(_counted(reporter, "skipped"))
