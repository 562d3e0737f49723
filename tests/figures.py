"""A pytest plugin: what is counted of a run, and that no skip passes in CI."""

import os
import signal
import socket
import sys
from collections import Counter
from collections.abc import Generator
from importlib import import_module

import pytest
from coverage import Coverage
from pytest_rerunfailures import SocketDB

FIRST = "gw0"
"""Of pytest-xdist's processes."""
MEASURED_ON_BOTH = "tests/contract/store/"
"""Where SQLite and PostgreSQL run different lines of the product."""
MOST_CASES = 4
"""So many cases of one test are measured by each process; those beyond run the same lines."""
MOST_S = 0.2
"""Of processor time: what runs longer runs the same lines again and again."""
SHOWN_LINES = 30
"""Of what a test that failed at first and passed then had said."""
NOT_MEASURED = ("tests/chaos/", "tests/flows/")
"""Tests of other processes, and those that run the same lines a hundred times."""


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Measure nothing in the process that only hands tests to others; see to how they are told."""
    running = Coverage.current()
    if running is not None and config.getoption("numprocesses", None):
        running.stop()
    signal.signal(signal.SIGVTALRM, lambda _number, _frame: sys.settrace(None))
    # pytest-rerunfailures writes twice and then reads, for each test: 40 ms by Nagle's rule.
    failures = getattr(config, "failures_db", None)
    if isinstance(failures, SocketDB):
        failures.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None]:
    """Measure what importing the product runs, in one process, and collect without measuring."""
    trace = sys.gettrace()
    if trace is None:
        return (yield)
    if os.environ.get("PYTEST_XDIST_WORKER", FIRST) == FIRST:
        import_module("tests.fakes.preloaded")
    sys.settrace(None)
    try:
        return (yield)
    finally:
        sys.settrace(trace)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None]:
    """Measure no coverage where it finds nothing: it doubles what a test takes."""
    trace = sys.gettrace()
    _cases[_function_of(item)] += 1
    if trace is None:
        return (yield)
    if _shows_lines(item):
        signal.setitimer(signal.ITIMER_VIRTUAL, MOST_S)
    else:
        sys.settrace(None)
    try:
        return (yield)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        sys.settrace(trace)


_cases: Counter[str] = Counter()


def _function_of(item: pytest.Item) -> str:
    return item.nodeid.partition("[")[0]


def _shows_lines(item: pytest.Item) -> bool:
    if item.nodeid.startswith(NOT_MEASURED) or _cases[_function_of(item)] > MOST_CASES:
        return False
    return "postgresql" not in item.name or item.nodeid.startswith(MEASURED_ON_BOTH)


@pytest.hookimpl(wrapper=True)
def pytest_sessionfinish(session: pytest.Session) -> Generator[None]:
    """Turn a green run into a failed one when CI skipped something."""
    reporter = _reporter(session.config)
    if reporter is not None and "true" == os.environ.get("CI") and _skipped(reporter):
        session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED
    return (yield)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print why tests were tried again, and a line of figures above pytest's own closing line."""
    for report in terminalreporter.stats.get("rerun", []):
        terminalreporter.write_sep("_", f"first try of {report.nodeid}")
        terminalreporter.write_line("\n".join(report.longreprtext.splitlines()[-SHOWN_LINES:]))
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
