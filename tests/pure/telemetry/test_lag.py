"""How late the event loop is."""

import asyncio
import time

import pytest

from shared.clock import SystemClock
from shared.telemetry.lag import LoopLag
from shared.telemetry.metrics import REGISTRY

pytestmark = pytest.mark.anyio


def looks(role: str) -> float:
    """Return how often the loop of a role was looked at."""
    return (
        REGISTRY.get_sample_value("sluiceway_event_loop_lag_seconds_count", {"role": role}) or 0.0
    )


@pytest.mark.parametrize(
    ("late_s", "expected_s"),
    [
        ([], 0.0),
        ([9.0], 0.0),  # a process that stood still
        ([9.0, 0.0, 9.0], 0.0),
        ([0.2, 0.3, 0.4], 0.2),
        ([0.5, 0.4, 0.3, 0.2, 0.1, 0.1, 0.1], 0.1),
    ],
)
def test_the_middle_one_of_the_last_five_counts(late_s, expected_s):
    lag = LoopLag("api")

    for one in late_s:
        lag.add(one)

    assert expected_s == lag.typical_s


async def test_a_busy_loop_is_late():
    """Work that keeps the loop for a tenth of a second, over and over."""
    lag, before = LoopLag("worker"), looks("worker")
    watching = asyncio.create_task(lag.watch(SystemClock()))
    ends_s = time.monotonic() + 10

    while lag.typical_s < 0.03:
        assert time.monotonic() < ends_s
        time.sleep(0.1)  # noqa: ASYNC251 (that is the point)
        await asyncio.sleep(0)
    watching.cancel()

    assert before + 3 <= looks("worker")
