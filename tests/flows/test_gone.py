"""Callers that leave and processes that die: nothing goes on for them, and all of it is booked."""

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.fakes.callers import Caller, Lost, called, post
from tests.fakes.stack import Child, Stack, eventually, running_stack
from tests.fakes.upstream import Answer, Recorded, Upstream, chunk, events, sse
from tests.fakes.vendor import USAGE, echo, running_vendor
from tests.flows.test_lives import children_of

pytestmark = pytest.mark.anyio

KEY = "sk-gone-0123456789abcdef"
CONFIG = """
version: 1
providers: {{up: {{kind: openai_compatible, base_url: "{base_url}", api_key: sk-upstream}}}}
routes:
  - model: up
    targets: [{{provider: up, model: up-1}}]
    price: {{input_per_mtok: 1, output_per_mtok: 2}}
    retry: {{max_attempts: 1}}
tenants:
  - id: acme
    keys: [{{name: ci, key: {key}}}]
    limits: {{rpm: 1000000, tpm: 1000000000, concurrency: 1000}}
    budgets: [{{window: day, limit_usd: 1000.0, action: reject}}]
"""
SEED = 20260301
CANCELS = 500
HANG_UPS = 100
AT_ONCE = 50
CLOSED_S = 1.0
"""How soon a provider sees that its answer is not wanted any more."""

ROLE = chunk({"role": "assistant", "content": ""})
WORD = chunk({"content": "word "})
STAGES: dict[str, Answer] = {
    "before the head": Answer(before_head="silence"),
    "before the first token": sse([ROLE], end="stall"),
    "in the stream": sse([ROLE, *[WORD] * 20], gap_s=0.02, end="stall"),
}
WORDS = 10
WHOLE = events(["word "] * WORDS, usage=USAGE)

ROUNDS = 2
PROCESSES = 10
"""Each of them dies once a round: 20 deaths, and no place has so many that it is given up."""


@pytest.fixture
def vendor() -> Iterator[Upstream]:
    with running_vendor() as running:
        yield running


@pytest.fixture
def stack(tmp_path: Path, sqlite_url: str, vendor: Upstream) -> Iterator[Stack]:
    config = CONFIG.format(base_url=vendor.base_url("up"), key=KEY)
    with running_stack(tmp_path / "stack", config, database_url=sqlite_url) as running:
        yield running


def chat(text: str, *, stream: bool, name: str) -> bytes:
    message = {"role": "user", "content": text}
    body = {"model": "up", "messages": [message], "stream": stream}
    return post("/v1/chat/completions", body, KEY, {"x-request-id": name})


async def test_a_cancelled_call_is_cancelled_at_its_provider(stack: Stack, vendor: Upstream):
    """Before the head, before the first token, in the stream: its connection closes in a second."""
    draw = random.Random(SEED)
    vendor.always("up", lambda request: STAGES[text_of(request).partition(":")[0]])
    api = stack.api()
    turns = asyncio.Semaphore(AT_ONCE)
    left_s: dict[str, float] = {}

    async def cancel(number: int) -> None:
        stage = draw.choice(list(STAGES))
        text, patience_s, pieces = f"{stage}:{number}", draw.uniform(0, 0.2), draw.randint(1, 5)
        stream = stage != "before the head" or draw.random() < 0.5
        async with turns:
            caller = await Caller.connect(api.port)
            caller.send(chat(text, stream=stream, name=f"cancel-{number}"))
            if stage == "in the stream":
                await caller.head()
                for _ in range(pieces):
                    await caller.piece()
            else:
                await asyncio.sleep(patience_s)
            left_s[text] = time.monotonic()
            caller.hang_up()

    await asyncio.gather(*(cancel(number) for number in range(CANCELS)))

    await until(lambda: not vendor.open_connections, within_s=CLOSED_S + 5)
    late = {
        text_of(request): closed_s - left_s[text_of(request)]
        for request in vendor.requests
        if (closed_s := vendor.connections[request.connection].closed_at_s or 0)
        > left_s[text_of(request)] + CLOSED_S
    }
    assert {} == late
    assert len(vendor.requests) > CANCELS / 2
    vendor.always("up", echo)
    healthy = [
        await called(api.port, chat("hello", stream=False, name=f"healthy-{number}"))
        for number in range(20)
    ]
    assert [200] * 20 == [reply.head.status for reply in healthy]
    await until(lambda: idle(api))
    rows = await until(lambda: booked(stack, "cancel", len(vendor.requests) - 20))
    assert {"cancelled"} == {row["outcome"] for row in rows}


@pytest.mark.behaviour(143)
async def test_who_hangs_up_in_mid_stream_is_charged(stack: Stack, vendor: Upstream):
    """A hundred times, anywhere: one row each, by the provider's count or by a flagged guess."""
    draw = random.Random(SEED)
    vendor.always("up", sse(WHOLE, gap_s=0.01))
    api = stack.api()
    turns = asyncio.Semaphore(AT_ONCE // 2)

    async def hang_up(number: int) -> None:
        pieces = draw.randint(1, WORDS + 8)
        async with turns:
            caller = await Caller.connect(api.port)
            caller.send(chat("hello", stream=True, name=f"hang-{number}"))
            await caller.head()
            while pieces and await caller.piece():
                pieces -= 1
            caller.hang_up()

    await asyncio.gather(*(hang_up(number) for number in range(HANG_UPS)))

    await until(lambda: idle(api))
    rows = await until(lambda: booked(stack, "hang", HANG_UPS))
    assert HANG_UPS == len({str(row["request_id"]).partition("/")[0] for row in rows}) == len(rows)
    flags = Counter((row["outcome"], bool(row["estimated"])) for row in rows)
    # Who leaves after the usage chunk is charged by it, so not by a guess.
    usual = {("cancelled", True), ("succeeded", False)}
    assert usual <= set(flags) <= {*usual, ("cancelled", False)}, flags
    assert all(int(str(row["cost_nanousd"])) > 0 for row in rows)
    assert 2_000_000 == max(int(str(row["cost_nanousd"])) for row in rows)


async def test_killed_processes_leave_no_call_out_of_the_books(stack: Stack, vendor: Upstream):
    """Twenty kill -9 in mid-call: each attempt stands once, as what is known of it or as lost."""
    vendor.always("up", by_wish)
    api = stack.api(f"--processes={PROCESSES}")
    for turn in range(ROUNDS):
        await until(lambda turn=turn: len(api.events("api.serving")) == PROCESSES * (turn + 1))
        quick = [
            called(api.port, chat("quick", stream=number % 2 == 0, name=f"quick-{turn}-{number}"))
            for number in range(10)
        ]
        assert [200] * 10 == [reply.head.status for reply in await asyncio.gather(*quick)]
        seen = len(vendor.asked("up"))
        slow = [
            asyncio.create_task(
                ended(api.port, chat("slow", stream=number % 2 == 0, name=f"slow-{turn}-{number}"))
            )
            for number in range(20)
        ]
        await until(lambda seen=seen: len(vendor.asked("up")) == seen + 20)
        for pid in children_of(api):
            os.kill(pid, signal.SIGKILL)
        assert ["lost"] * 20 == await asyncio.gather(*slow)

    rows = await until(lambda: booked(stack, "", len(vendor.requests)))
    assert ROUNDS * PROCESSES == len(api.events("api.child_died"))
    assert len(vendor.requests) == len(rows) == ROUNDS * 30
    assert len(rows) == len({str(row["request_id"]).partition("/")[0] for row in rows})
    assert {"quick": {("succeeded", 2_000_000, False)}, "slow": {"lost"}} == {
        "quick": {
            (row["outcome"], row["cost_nanousd"], bool(row["estimated"]))
            for row in rows
            if str(row["request_id"]).startswith("quick")
        },
        "slow": {row["outcome"] for row in rows if str(row["request_id"]).startswith("slow")},
    }
    assert all(row["estimated"] for row in rows if row["outcome"] == "lost")


def by_wish(request: Recorded) -> Answer:
    """Answer at once, or begin and never end."""
    if text_of(request) == "quick":
        return sse(WHOLE) if request.json.get("stream") else echo(request)
    return STAGES["in the stream" if request.json.get("stream") else "before the head"]


async def ended(port: int, request: bytes) -> str:
    """Return how the call ended for its caller."""
    try:
        return str((await called(port, request)).head.status)
    except Lost:
        return "lost"


def text_of(request: Recorded) -> str:
    return str(request.json["messages"][-1]["content"])


def idle(api: Child) -> bool:
    return httpx.get(f"{api.url}/health").json()["in_flight"] == 0


def booked(stack: Stack, name: str, least: int) -> list[dict[str, object]]:
    """Return the ledger rows of requests so named, once there are so many."""
    rows = stack.rows("SELECT * FROM ledger WHERE request_id LIKE :name", name=f"{name}%")
    return rows if len(rows) >= least else []


async def until(look: Callable[[], object], *, within_s: float = 20.0):
    """Return the first true answer of `look`, letting the callers of this test go on meanwhile."""
    return await asyncio.to_thread(partial(eventually, look, within_s=within_s))
