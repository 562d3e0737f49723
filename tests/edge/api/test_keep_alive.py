"""Signs of life on streams that say nothing for long, so that no proxy cuts them."""

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace

import anyio
import httpx
import openai
import pytest
from uvicorn.protocols.http.flow_control import FlowControl

from api.asgi import KEEP_ALIVE_S, Sender, while_taken
from api.cycle import Cycle
from shared.clock import SystemClock
from shared.corked import Corked
from tests.edge.api.conftest import KEY
from tests.edge.api.messages import URL, Line, line, routes
from tests.fakes.pipe import PipeTransport

pytestmark = pytest.mark.anyio

HURRY = 300
"""Fifteen seconds become 50 ms."""
LONG_MS = 1000 * KEEP_ALIVE_S / HURRY * 3
CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"
ASKED = {
    "model": "mock",
    "max_tokens": 100,
    "stream": True,
    "messages": [{"role": "user", "content": "hello brave new world"}],
}
SIGNS = {CHAT: ": keep-alive\n\n", MESSAGES: 'event: ping\ndata: {"type": "ping"}\n\n'}


class Hurried(SystemClock):
    """Waits a small part of what it is told."""

    async def sleep(self, length_s: float) -> None:
        await super().sleep(length_s / HURRY)

    def later(self, length_s: float, ring):
        return super().later(length_s / HURRY, ring)


def slow(**options: object) -> dict[str, object]:
    return routes(("mock", {"kind": "mock", "params": {"mock": options}}))


async def asked(api: Line, path: str) -> httpx.Response:
    api.edge.clock = Hurried()
    with anyio.fail_after(10):
        return await api.http.post(path, json=ASKED)


@pytest.mark.behaviour(119)
@pytest.mark.parametrize("path", [CHAT, MESSAGES])
async def test_a_slow_first_token_is_waited_for(path: str, tmp_path: Path, sqlite_url: str):
    """The head goes with the first sign of life; the whole answer follows."""
    async with line(tmp_path, sqlite_url, slow(delay_ms=LONG_MS)) as api:
        answer = await asked(api, path)

    assert answer.text.startswith(SIGNS[path])
    assert 2 <= answer.text.count(SIGNS[path]) <= 3
    assert "hello" in answer.text
    assert answer.text.endswith(("data: [DONE]\n\n", 'data: {"type":"message_stop"}\n\n'))
    assert (200, "text/event-stream; charset=utf-8", "no") == (
        answer.status_code,
        answer.headers["content-type"],
        answer.headers["x-accel-buffering"],
    )
    assert answer.headers["x-request-id"].startswith("req_")


@pytest.mark.behaviour(119)
@pytest.mark.parametrize("path", [CHAT, MESSAGES])
async def test_silence_between_two_pieces_is_no_end(path: str, tmp_path: Path, sqlite_url: str):
    async with line(tmp_path, sqlite_url, slow(tokens=2, pace_ms=LONG_MS)) as api:
        answer = await asked(api, path)

    events = [event + "\n\n" for event in answer.text.removesuffix("\n\n").split("\n\n")]
    first = next(place for place, event in enumerate(events) if "the" in event)
    assert SIGNS[path] in events[first + 1 :]
    assert all(event.startswith(("data: ", "event: ", ": ")) for event in events)


@pytest.mark.behaviour(119)
async def test_openais_sdk_does_not_see_them(tmp_path: Path, sqlite_url: str):
    async with line(tmp_path, sqlite_url, slow(delay_ms=LONG_MS)) as api:
        api.edge.clock = Hurried()
        sdk = openai.AsyncOpenAI(api_key=KEY, base_url=f"{URL}/v1", http_client=api.http)
        stream = await sdk.chat.completions.create(**ASKED)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    assert "hello brave new world" in text


@pytest.mark.behaviour(119)
async def test_anthropics_sdk_does_not_see_them(tmp_path: Path, sqlite_url: str):
    async with line(tmp_path, sqlite_url, slow(delay_ms=LONG_MS)) as api, api.sdk() as sdk:
        api.edge.clock = Hurried()
        asked = {name: value for name, value in ASKED.items() if name != "stream"}
        async with sdk.messages.stream(**asked) as stream:
            final = await stream.get_final_message()

    assert "hello brave new world" in final.content[0].text


@pytest.mark.parametrize(("path", "name"), [(CHAT, ""), (MESSAGES, "event: error\n")])
async def test_what_fails_after_a_sign_of_life_is_an_event(
    path: str, name: str, tmp_path: Path, sqlite_url: str
):
    """Its status cannot be told any more; its code can."""
    async with line(tmp_path, sqlite_url, slow(delay_ms=LONG_MS, status=429)) as api:
        answer = await asked(api, path)

    *signs, last, end = answer.text.split("\n\n")
    assert signs
    assert "" == end
    assert 200 == answer.status_code
    error = json.loads(last.removeprefix(name).removeprefix("data: "))["error"]
    assert "rate_limit_exceeded" == error["code"]


@pytest.mark.behaviour(120)
@pytest.mark.parametrize("path", [CHAT, MESSAGES])
async def test_what_fails_before_has_its_status(path: str, tmp_path: Path, sqlite_url: str):
    async with line(tmp_path, sqlite_url, slow(status=429)) as api:
        answer = await asked(api, path)

    assert (429, "application/json") == (answer.status_code, answer.headers["content-type"])


async def test_no_event_is_cut_in_two():
    """A piece may be half of an event: then its other half comes next."""
    sent: list[bytes] = []

    async def send(message) -> None:
        sent.append(message["body"])

    sender = Sender(send)
    for body in (b"data: 1", b"\n\n"):
        await sender({"type": "http.response.body", "body": body, "more_body": True})
        await sender.between({"type": "http.response.body", "body": b":\n\n", "more_body": True})

    assert [b"data: 1", b"\n\n", b":\n\n"] == sent


async def test_a_piece_waits_for_a_sign_under_way():
    """What is sent beside the answer is whole before the answer goes on."""
    sent: list[bytes] = []
    taken = asyncio.Event()

    async def send(message) -> None:
        await taken.wait()
        sent.append(message["body"])

    sender = Sender(send)
    beside = asyncio.create_task(
        sender.between(
            *(
                {"type": "http.response.body", "body": one, "more_body": True}
                for one in (b"a", b"b")
            )
        )
    )
    await asyncio.sleep(0)
    answer = asyncio.create_task(
        sender({"type": "http.response.body", "body": b"c", "more_body": True})
    )
    await asyncio.sleep(0)
    taken.set()
    await asyncio.gather(beside, answer)

    assert [b"a", b"b", b"c"] == sent


async def test_a_sender_that_speaks_needs_no_signs():
    signs = 0

    async def quiet() -> None:
        nonlocal signs
        signs += 1

    async def send(_message) -> None:
        pass

    sender = Sender(send)
    with while_taken(sender, Hurried(), quiet):
        for _ in range(20):
            await sender({"type": "http.response.body", "body": b"x\n\n", "more_body": True})
            await asyncio.sleep(KEEP_ALIVE_S / HURRY / 5)

    assert 0 == signs


async def flowing() -> tuple[Cycle, Sender, PipeTransport]:
    """Return an answer in chunks whose head is sent."""
    wire = PipeTransport()
    owner = SimpleNamespace(
        transport=Corked(wire, asyncio.get_running_loop()),
        flow=FlowControl(wire),
        loop=asyncio.get_running_loop(),
        expect_100_continue=False,
        server_state=SimpleNamespace(default_headers=[]),
        on_response_complete=lambda: None,
    )
    cycle = Cycle(owner, {"method": "POST"}, {}, keep_alive=True, wait_for_body=lambda: None)
    sender = Sender(cycle.send)
    await sender({"type": "http.response.start", "status": 200, "headers": []})
    await asyncio.sleep(0)
    wire.written = b""
    return cycle, sender, wire


def sign(body: bytes) -> dict[str, object]:
    return {"type": "http.response.body", "body": body, "more_body": True}


async def test_no_event_that_flows_is_cut_in_two():
    _, sender, wire = await flowing()
    take = sender.taker()

    for piece in (b"data: 1", b"\n\n"):
        assert take(piece)
        await sender.between(sign(b":\n\n"))
    await sender(sign(b"data: 2"))
    await sender.between(sign(b":\n\n"))

    await asyncio.sleep(0)
    chunks = wire.written.split(b"\r\n")[1::2]
    assert [b"data: 1", b"\n\n", b":\n\n", b"data: 2"] == chunks


async def test_nothing_flows_past_a_sign_under_way():
    cycle, sender, wire = await flowing()
    take = sender.taker()
    cycle.flow.pause_writing()
    beside = asyncio.create_task(sender.between(sign(b":1\n\n"), sign(b":2\n\n")))
    await asyncio.sleep(0)
    cycle.flow.resume_writing()

    assert not take(b"data: x\n\n")
    assert sender.taker() is not None
    assert not take(b"data: x\n\n")
    await beside
    assert take(b"data: x\n\n")
    await sender({"type": "http.response.body", "body": b"", "more_body": False})
    assert not take(b"data: late\n\n")

    await asyncio.sleep(0)
    chunks = wire.written.split(b"\r\n")[1::2]
    assert [b":1\n\n", b":2\n\n", b"data: x\n\n", b""] == chunks[:4]


async def test_a_sender_past_whom_it_flows_needs_no_signs():
    signs = 0

    async def quiet() -> None:
        nonlocal signs
        signs += 1

    _, sender, _ = await flowing()
    take = sender.taker()
    with while_taken(sender, Hurried(), quiet):
        for _ in range(20):
            assert take(b"x\n\n")
            await asyncio.sleep(KEEP_ALIVE_S / HURRY / 5)

    assert 0 == signs
