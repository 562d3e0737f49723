"""What was served is counted always, and written as the config says."""

import io
from datetime import UTC, datetime

import msgspec

from api.access import AccessLog, Served
from shared.telemetry.lines import Lines
from shared.telemetry.sampling import sampled
from tests.fakes.clock import FakeClock


def served(number: int, *, status: int = 200, code: str | None = None) -> Served:
    return Served(
        level="info",
        timestamp=datetime(2026, 1, 1, tzinfo=UTC),
        request_id=f"req_{number}",
        endpoint="/v1/chat/completions",
        status=status,
        elapsed_ms=1.5,
        code=code,
        overhead_ms=0.5,
    )


def written(*calls: Served, write: bool = True, sample_rate: float = 1.0) -> list[str]:
    """Return the request ids of the lines."""
    stream = io.StringIO()
    log = AccessLog(FakeClock(), write=write, sample_rate=sample_rate, lines=Lines(stream))
    for call in calls:
        log.add(call)
    assert "" == stream.getvalue(), "the hot path does not write"
    log.flush()
    log.flush()
    lines = [msgspec.json.decode(line) for line in stream.getvalue().splitlines()]
    assert all(line["event"] == "request.served" for line in lines)
    return [line["request_id"] for line in lines]


def test_each_call_has_a_line():
    assert ["req_1", "req_2"] == written(served(1), served(2))


def test_no_lines_when_they_are_not_asked_for():
    assert [] == written(served(1), served(2, status=500), write=False)


def test_a_share_of_what_went_well_is_written_and_every_error():
    """A stream that broke has status 200 and a code: it is an error."""
    calls = [served(number) for number in range(100)]
    failed = [served(200, status=429), served(201, code="stream_interrupted")]

    lines = written(*calls, *failed, sample_rate=0.2)

    chosen = [call.request_id for call in calls if sampled(call.request_id, 0.2)]
    assert 0 < len(chosen) < 100
    assert [*chosen, "req_200", "req_201"] == lines
    assert ["req_200", "req_201"] == written(*calls, *failed, sample_rate=0.0)
