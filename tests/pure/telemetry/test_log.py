"""One JSON object a line, with the ids of the request, for our logs and for libraries'."""

import io
import logging

import msgspec
import pytest
import structlog

from shared.telemetry.context import bound, current_ids
from shared.telemetry.log import configure_logging, get_logger, wants_console


@pytest.fixture
def lines():
    """Log into memory; afterwards logging is as it was before."""
    root = logging.getLogger()
    before, ours = (root.handlers[:], root.level), structlog.get_config()
    stream = io.StringIO()
    configure_logging(level="info", stream=stream)
    yield lambda: [msgspec.json.decode(line) for line in stream.getvalue().splitlines()]
    structlog.configure(**ours)
    root.handlers[:], root.level = before


def test_a_line_has_a_time_a_level_and_an_event(lines):
    get_logger("attempts").warning("attempt.failed", code="upstream_timeout", elapsed_s=1.5)

    [line] = lines()

    assert "Z" == line.pop("timestamp")[-1]
    assert {
        "level": "warning",
        "event": "attempt.failed",
        "module": "attempts",
        "code": "upstream_timeout",
        "elapsed_s": 1.5,
    } == line


def test_a_line_names_its_request_and_job(lines):
    with bound(request_id="req_1"):
        with bound(job_id="job_1"):
            get_logger().info("a")
        get_logger().info("b")
    get_logger().info("c")

    assert [("req_1", "job_1"), ("req_1", None), (None, None)] == [
        (line.get("request_id"), line.get("job_id")) for line in lines()
    ]
    assert {} == current_ids()


def test_the_lines_of_libraries_look_the_same(lines):
    with bound(request_id="req_1"):
        logging.getLogger("some.library").error("gave up on %s", "sk-sw-abcdefgh1234")

    [line] = lines()

    assert ("error", "gave up on [hidden]", "some.library", "req_1") == (
        line["level"],
        line["event"],
        line["logger"],
        line["request_id"],
    )


def test_what_is_below_the_level_is_not_written(lines):
    get_logger().debug("a")
    logging.getLogger("dramatiq.worker").info("b")

    assert [] == lines()


def test_an_exception_is_written_without_secrets(lines):
    try:
        raise ValueError("Bearer abc-canary")
    except ValueError:
        get_logger().exception("failed", api_key="canary", seen=object)

    [line] = lines()

    assert "ValueError: Bearer [hidden]" in line["exception"]
    assert "canary" not in str(line)


def test_the_console_is_for_a_person_in_development():
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    assert [True, False, False] == [
        wants_console("dev", Terminal()),
        wants_console("production", Terminal()),
        wants_console("dev", io.StringIO()),
    ]
