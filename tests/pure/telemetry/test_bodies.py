"""Bodies are logged for those who asked, in one line a request, and cost the call nothing."""

import io
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.config.conduct import LoggingConfig
from shared.telemetry.bodies import MOST_BYTES, MOST_STREAM_BYTES, BodyLog, Exchanged, StreamCopy
from shared.telemetry.lines import Lines
from shared.telemetry.sampling import sampled

ASKED = b'{"model": "m", "messages": [{"role": "user", "content": "I am jo@example.org"}]}'
ALL = LoggingConfig(bodies=True)


def exchanged(response: bytes | StreamCopy, request: bytes = ASKED) -> Exchanged:
    return Exchanged(
        timestamp=datetime(2026, 1, 1, tzinfo=UTC),
        request_id="req_1",
        endpoint="/v1/chat/completions",
        status=200,
        request=request,
        response=response,
        model="m sk-0123456789abcdef",
    )


def logged(response: bytes | StreamCopy, request: bytes = ASKED) -> dict[str, object]:
    stream = io.StringIO()
    BodyLog(ALL, ("the-secret",), Lines(stream)).add(exchanged(response, request))
    [line] = [msgspec.json.decode(line) for line in stream.getvalue().splitlines()]
    return line


def test_one_line_has_both_bodies():
    assert {
        "event": "request.bodies",
        "level": "info",
        "timestamp": "2026-01-01T00:00:00Z",
        "request_id": "req_1",
        "endpoint": "/v1/chat/completions",
        "status": 200,
        "model": "m [hidden]",
        "request": {"model": "m", "messages": [{"role": "user", "content": "I am [email]"}]},
        "response": {"text": "[hidden] it is"},
    } == logged(b'{"text": "the-secret it is"}')


def test_a_stream_is_logged_as_the_text_it_made():
    """So that what was cut into pieces is found: here an address and a secret."""
    copy = StreamCopy()
    for text in ("Ask jo@exa", "mple.org, the-sec", "ret."):
        copy.add(
            b'data: {"choices": [{"index": 0, "delta": {"content": "%s"}}]}\n\n' % text.encode()
        )

    assert {"choices.0.content": "Ask [email], [hidden]."} == logged(copy)["response"]


def test_a_long_stream_is_kept_in_part_and_says_so():
    copy = StreamCopy()
    for _ in range(3):
        copy.add(b"x" * (MOST_STREAM_BYTES // 2))

    assert MOST_STREAM_BYTES == copy.kept_bytes
    assert logged(copy)["response_cut"] is True


def test_a_large_body_is_told_by_its_size():
    size = MOST_BYTES + 1

    assert f"[{size} bytes]" == logged(b"{}", b'"' + b"x" * (size - 2) + b'"')["request"]


def test_bodies_are_off_unless_asked_for():
    assert not BodyLog(LoggingConfig()).wants("req_1")
    assert not BodyLog(LoggingConfig(bodies=True, sample_rate=0)).wants("req_1")
    assert BodyLog(ALL).wants("req_1")


@given(st.text(min_size=1), st.floats(0, 1), st.floats(0, 1))
def test_the_choice_is_the_same_each_time_and_grows_with_the_rate(request_id, rate, other):
    """Every process says the same of one id, and a higher rate never drops what a lower one has."""
    low, high = sorted((rate, other))

    assert sampled(request_id, low) <= sampled(request_id, high)
    assert sampled(request_id, 1.0)
    assert not sampled(request_id, 0.0)


@pytest.mark.parametrize("rate", [0.01, 0.25, 0.9])
def test_the_share_is_the_rate(rate):
    chosen = sum(sampled(f"req_{number:026d}", rate) for number in range(20_000))

    assert rate * 0.9 < chosen / 20_000 < min(1.0, rate * 1.1)
