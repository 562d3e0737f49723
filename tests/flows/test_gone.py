"""Callers that leave and processes that die: nothing goes on for them, and all of it is booked."""

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import httpx
import msgspec
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
HANG_UPS = int(os.environ.get("SLUICEWAY_HANG_UPS", "100"))
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
WHOLE = events(["word "] * 10, usage=USAGE)

# Four bytes to a token, as text of vendors has it about.
WORDS = 100
QUESTION = "abc " * 5000
QUESTION_TOKENS = 5000
COUNTED = {"prompt_tokens": QUESTION_TOKENS, "completion_tokens": WORDS, "total_tokens": 5100}
STREAM = events(["abc "] * WORDS, usage=COUNTED)
STREAM_BYTES = len(b"".join(STREAM)) + 8 * len(STREAM)

LONG = int(os.environ.get("SLUICEWAY_KILLS", "20")) >= 50
ROUNDS = 4 if LONG else 2
PROCESSES = 13 if LONG else 10
"""Each is killed once a round by its own answer; no place so often that it is given up."""
SLOW = 20
KILL_WITHIN_S = 0.003
LOOK_S = 0.02


@pytest.fixture
def vendor() -> Iterator[Upstream]:
    with running_vendor() as running:
        yield running


@pytest.fixture
def stack(tmp_path: Path, sqlite_url: str, vendor: Upstream) -> Iterator[Stack]:
    config = CONFIG.format(base_url=vendor.base_url("up"), key=KEY)
    with running_stack(tmp_path / "stack", config, database_url=sqlite_url) as running:
        yield running


def chat(text: str, *, stream: bool, name: str, closes: bool = False) -> bytes:
    message = {"role": "user", "content": text}
    body = {"model": "up", "messages": [message], "stream": stream}
    closing = {"connection": "close"} if closes else {}
    return post("/v1/chat/completions", body, KEY, {"x-request-id": name, **closing})


async def test_a_cancelled_call_is_cancelled_at_its_provider(stack: Stack, vendor: Upstream):
    """Before the head, before the first token, in the stream: its connection closes in a second."""
    draw = random.Random(SEED)
    api = stack.api()
    turns = asyncio.Semaphore(AT_ONCE)
    loop = asyncio.get_running_loop()
    arrived: dict[str, asyncio.Event] = {}
    left_s: dict[str, float] = {}

    def answer(request: Recorded) -> Answer:
        loop.call_soon_threadsafe(arrived[text_of(request)].set)
        return STAGES[text_of(request).partition(":")[0]]

    vendor.always("up", answer)

    async def cancel(number: int) -> None:
        stage = draw.choice(list(STAGES))
        text, patience_s, pieces = f"{stage}:{number}", draw.uniform(0, 0.2), draw.randint(1, 5)
        stream = stage != "before the head" or draw.random() < 0.5
        # Of the others some leave at any time, also before the provider is asked at all.
        leaves_once_asked = draw.random() < 0.5
        arrived[text] = asyncio.Event()
        async with turns:
            caller = await Caller.connect(api.port)
            caller.send(chat(text, stream=stream, name=f"cancel-{number}"))
            if stage == "in the stream":
                await caller.head()
                for _ in range(pieces):
                    await caller.piece()
            else:
                if leaves_once_asked:
                    await arrived[text].wait()
                await asyncio.sleep(patience_s)
            left_s[text] = time.monotonic()
            caller.hang_up()

    async with standstills() as stood_s:
        await asyncio.gather(*(cancel(number) for number in range(CANCELS)))
        await until(lambda: not vendor.open_connections, within_s=CLOSED_S + 5)

    late = {
        text_of(request): closed_s - left_s[text_of(request)]
        for request in vendor.requests
        if (closed_s := vendor.connections[request.connection].closed_at_s or 0)
        > left_s[text_of(request)] + CLOSED_S + max(stood_s)
    }
    assert {} == late, max(stood_s)
    asked = Counter(text_of(request).partition(":")[0] for request in vendor.requests)
    assert len(vendor.requests) > CANCELS / 2, asked
    assert min(asked[stage] for stage in STAGES) >= CANCELS / 20, asked
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
    """At any byte: one row each, the provider's call closed, and together what it has counted."""
    draw = random.Random(SEED)
    told: list[Pieces] = []

    def tell(_request: Recorded) -> Answer:
        told.append(Pieces(STREAM))
        return msgspec.structs.replace(sse((), gap_s=0.01), pieces=told[-1])

    vendor.always("up", tell)
    api = stack.api()
    turns = asyncio.Semaphore(AT_ONCE // 2)

    async def hang_up(number: int) -> None:
        async with turns:
            caller = await Caller.connect(api.port)
            caller.send(chat(QUESTION, stream=True, name=f"hang-{number}", closes=True))
            await caller.head()
            await caller.some(draw.randint(0, STREAM_BYTES))
            caller.hang_up()

    await asyncio.gather(*(hang_up(number) for number in range(HANG_UPS)))

    await until(lambda: idle(api))
    rows = await until(lambda: booked(stack, "hang", HANG_UPS))
    assert HANG_UPS == len({str(row["request_id"]).partition("/")[0] for row in rows}) == len(rows)
    flags = Counter((row["outcome"], bool(row["estimated"])) for row in rows)
    # Who leaves after the usage chunk is charged by it, so not by a guess.
    usual = {("cancelled", True), ("succeeded", False)}
    assert usual <= set(flags) <= {*usual, ("cancelled", False)}, flags
    await until(lambda: vendor.open_connections <= sum(one.over for one in told))
    words = [min(max(one.sent - 1, 0), WORDS) for one in told]  # the first piece is the role
    counted = sum(QUESTION_TOKENS * 1000 + count * 2000 for count in words)
    charged = sum(int(str(row["cost_nanousd"])) for row in rows)
    assert abs(charged - counted) <= counted / 50, (charged, counted)
    assert_books_agree(stack)


async def test_killed_processes_leave_no_call_out_of_the_books(stack: Stack, vendor: Upstream):
    """Kill -9 in mid-call, and just when its answer has come: each attempt stands once.

    As what is known of it, or as lost at its estimate.
    """
    killer = Killer(vendor, random.Random(SEED))
    vendor.always("up", killer.by_wish)
    api = stack.api(f"--processes={PROCESSES}")
    for turn in range(ROUNDS):
        await until(lambda turn=turn: len(api.events("api.serving")) == PROCESSES * (turn + 1))
        quick = [
            called(api.port, chat("quick", stream=number % 2 == 0, name=f"quick-{turn}-{number}"))
            for number in range(10)
        ]
        assert [200] * 10 == [reply.head.status for reply in await asyncio.gather(*quick)]
        seen = len(vendor.asked("up"))
        killer.targets, killer.holds = children_of(api), True
        slow = [
            asyncio.create_task(
                ended(
                    await Caller.connect(api.port),
                    chat("slow", stream=number % 2 == 0, name=f"slow-{turn}-{number}"),
                )
            )
            for number in range(SLOW)
        ]
        await until(lambda seen=seen: len(vendor.asked("up")) == seen + SLOW)
        callers = [
            await connected_to(pid, {*killer.targets} - {pid}, api.port) for pid in killer.targets
        ]
        last = [
            asyncio.create_task(
                ended(caller, chat("last", stream=number % 2 == 0, name=f"last-{turn}-{number}"))
            )
            for number, caller in enumerate(callers)
        ]
        await until(lambda seen=seen: len(vendor.asked("up")) == seen + SLOW + PROCESSES)
        killer.holds = False
        assert {"200", "lost"} >= set(await asyncio.gather(*last))
        await until(lambda: not killer.targets)
        assert ["lost"] * SLOW == await asyncio.gather(*slow)

    rows = await until(lambda: booked(stack, "", len(vendor.requests)))
    assert ROUNDS * PROCESSES == len(api.events("api.child_died"))
    assert len(vendor.requests) == len(rows) == ROUNDS * (10 + SLOW + PROCESSES)
    assert len(rows) == len({str(row["request_id"]).partition("/")[0] for row in rows})
    known = ("succeeded", 2_000_000, False)
    ends: dict[str, set[object]] = {"quick": set(), "slow": set(), "last": set()}
    for row in rows:
        end = (row["outcome"], row["cost_nanousd"], bool(row["estimated"]))
        lost = row["outcome"] == "lost" and row["estimated"] and int(str(row["cost_nanousd"])) > 0
        ends[str(row["request_id"]).partition("-")[0]].add("lost" if lost else end)
    assert {known} == ends["quick"]
    assert {"lost"} == ends["slow"]
    assert ends["last"] <= {"lost", known}
    assert_books_agree(stack)


async def connected_to(pid: int, others: Collection[int], port: int) -> Caller:
    """Connect to one of the processes on a port: the others are stopped until it has accepted."""
    for other in others:
        os.kill(other, signal.SIGSTOP)
    try:
        caller = await Caller.connect(port)
        await until(lambda: has_socket(pid, remote_port=caller.port))
    finally:
        for other in others:
            os.kill(other, signal.SIGCONT)
    return caller


class Pieces(Collection[bytes]):
    """What a provider sends, piece by piece; `sent` have gone out whole, `over` says all have."""

    def __init__(self, pieces: Sequence[bytes], end: Callable[[], object] = bool) -> None:
        self._pieces = pieces
        self._end = end
        self.sent = 0

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            yield piece
            self.sent += 1
        self._end()

    def __len__(self) -> int:
        return len(self._pieces)

    def __contains__(self, piece: object) -> bool:
        return piece in self._pieces

    @property
    def over(self) -> bool:
        return self.sent == len(self._pieces)


class Killer:
    """A provider that answers a call and kills the process that made it, within milliseconds."""

    def __init__(self, vendor: Upstream, draw: random.Random) -> None:
        self.holds = True
        self.targets: list[int] = []
        self._vendor = vendor
        self._draw = draw

    def by_wish(self, request: Recorded) -> Answer:
        """Answer at once, or begin and never end, or answer and kill."""
        text, stream = text_of(request), request.json.get("stream")
        if text == "slow":
            return STAGES["in the stream" if stream else "before the head"]
        answer = sse(WHOLE) if stream else echo(request)
        if text == "quick":
            return answer
        port = self._vendor.connections[request.connection].port
        maker = next(pid for pid in self.targets if has_socket(pid, own_port=port))
        pieces = Pieces(tuple(answer.pieces), partial(self._aim, maker))
        return msgspec.structs.replace(
            answer, pieces=pieces, framing="chunked", held=lambda: self.holds
        )

    def _aim(self, maker: int) -> None:
        soon_s = self._draw.uniform(0, KILL_WITHIN_S)
        asyncio.get_running_loop().call_later(soon_s, self._kill, maker)

    def _kill(self, maker: int) -> None:
        os.kill(maker, signal.SIGKILL)
        self.targets.remove(maker)


def has_socket(pid: int, *, own_port: int = -1, remote_port: int = -1) -> bool:
    """Return whether a process has a connection from that port of its own, or to that other."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ports = [tuple(int(line[side].rpartition(":")[2], 16) for side in (1, 2)) for line in lines]
    wanted = [own == own_port or remote == remote_port for own, remote in ports]
    links = {f"socket:[{line[9]}]" for line, found in zip(lines, wanted, strict=True) if found}
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            if str(file.readlink()) in links:
                return True
    return False


def assert_books_agree(stack: Stack) -> None:
    found = stack.run("ledger", "verify")
    assert 0 == found.returncode, found.stdout + found.stderr


async def ended(caller: Caller, request: bytes) -> str:
    """Return how the call ended for its caller."""
    try:
        caller.send(request)
        return str((await caller.answer()).head.status)
    except (Lost, OSError):
        return "lost"
    finally:
        caller.close()


def text_of(request: Recorded) -> str:
    return str(request.json["messages"][-1]["content"])


@asynccontextmanager
async def standstills() -> AsyncIterator[list[float]]:
    """Yield how long this process stood still, in seconds: the machine is not the gateway."""
    found = [0.0]

    async def look() -> None:
        while True:
            due_s = time.monotonic() + LOOK_S
            await asyncio.sleep(LOOK_S)
            found.append(time.monotonic() - due_s)

    looking = asyncio.create_task(look())
    try:
        yield found
    finally:
        looking.cancel()


def idle(api: Child) -> bool:
    return httpx.get(f"{api.url}/health").json()["in_flight"] == 0


def booked(stack: Stack, name: str, least: int) -> list[dict[str, object]]:
    """Return the ledger rows of requests so named, once there are so many."""
    rows = stack.rows("SELECT * FROM ledger WHERE request_id LIKE :name", name=f"{name}%")
    return rows if len(rows) >= least else []


async def until(look: Callable[[], object], *, within_s: float = 20.0):
    """Return the first true answer of `look`, letting the callers of this test go on meanwhile."""
    return await asyncio.to_thread(partial(eventually, look, within_s=within_s))
