"""Whatever provider and caller do to each other, every call to a provider is booked once."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from functools import partial

import httpx
import pytest

from tests.fakes.stack import eventually
from tests.fakes.upstream import Answer, Recorded, chunk, sse, status, streams
from tests.fakes.vendor import echo, slowly
from tests.flows.conftest import KEY, Line

pytestmark = pytest.mark.anyio

CALLS = 120
SEED = 20260301
HELLO = [{"role": "user", "content": "hello"}]
FAULTS: tuple[Callable[[Recorded], Answer], ...] = (
    echo,
    echo,
    echo,
    lambda request: slowly(0.2, request),
    lambda _: status(500),
    lambda _: status(429, retry_after="1"),
    lambda _: Answer(before_head="silence"),
    lambda _: Answer(before_head="reset"),
    lambda _: sse([chunk({"content": "half"})], end="reset"),
    lambda _: streams(*["word "] * 10, gap_s=0.05),
)


@pytest.mark.behaviour(142, 159)
async def test_every_call_to_a_provider_is_in_the_books(line: Line):
    """Faults and impatient callers by the dozen: rows match what the vendors saw."""
    draw = random.Random(SEED)
    for name in ("alpha", "beta"):
        line.vendor.always(name, partial(fault, draw))
    before = len(line.vendor.requests)
    plans = [
        (f"chaos-{number}", draw.choice((True, False)), draw.choice((0.05, 0.15, 0.3, 5.0)))
        for number in range(CALLS)
    ]

    async with httpx.AsyncClient(
        base_url=line.api.url, headers={"authorization": f"Bearer {KEY}"}
    ) as client:
        ends = dict(await asyncio.gather(*(call(client, *plan) for plan in plans)))

    seen = len(line.vendor.requests) - before
    eventually(lambda: nothing_runs(line), what="calls in flight")
    rows = eventually(lambda: settled(line), what="the spool in SQL")
    by_request = {
        name: [row for row in rows if str(row["request_id"]).startswith(f"{name}/")]
        for name, *_ in plans
    }
    assert len({row["attempt_id"] for row in rows}) == len(rows)
    assert seen <= len(rows) <= seen + CALLS, "at most a call that was given up before it was sent"
    for name, end in ends.items():
        outcomes = Counter(row["outcome"] for row in by_request[name])
        assert expected(end, outcomes), (name, end, outcomes)
        assert all(row["cost_nanousd"] is not None for row in by_request[name])
    assert {"whole", "refused", "cut", "left"} == set(ends.values()), "the draw covers all ends"


def fault(draw: random.Random, request: Recorded) -> Answer:
    return draw.choice(FAULTS)(request)


async def call(
    client: httpx.AsyncClient, name: str, stream: object, patience_s: float
) -> tuple[str, str]:
    """Make a call and return how it ended for the caller."""
    body = {"model": "pair", "messages": HELLO, "stream": stream}
    try:
        async with asyncio.timeout(patience_s):
            answer = await client.post(
                "/v1/chat/completions", json=body, headers={"x-request-id": name}, timeout=30
            )
    except TimeoutError:
        return name, "left"
    if answer.status_code != 200:
        return name, "refused"
    if stream and '"error"' in answer.text:
        assert "[DONE]" not in answer.text
        return name, "cut"
    assert not stream or answer.text.endswith("data: [DONE]\n\n")
    return name, "whole"


def expected(end: str, outcomes: Counter[object]) -> bool:
    match end:
        case "whole":
            return outcomes["succeeded"] == 1 and outcomes.keys() <= {"succeeded", "failed"}
        case "refused":
            return outcomes.keys() == {"failed"}
        case "cut":
            return outcomes["interrupted"] == 1 and outcomes.keys() <= {"interrupted", "failed"}
        case _:  # left: in the middle, or just when it had ended
            return outcomes.total() <= 2


def nothing_runs(line: Line) -> bool:
    return httpx.get(f"{line.api.url}/health").json()["in_flight"] == 0


def settled(line: Line) -> list[dict[str, object]]:
    """Return the rows once the spool has no attempt that SQL has not."""
    rows = line.stack.rows("SELECT * FROM ledger WHERE request_id LIKE 'chaos-%'")
    known = {row["attempt_id"] for row in rows}
    spool = line.stack.data_dir / "spool"
    opened = {
        text.split('"attempt_id":"')[1].split('"')[0]
        for path in spool.glob(f"{line.api.owner}-*.spool")
        for text in path.read_text().splitlines()
        if text.startswith("O") and '"chaos-' in text
    }
    return rows if opened == known else []
