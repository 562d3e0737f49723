"""Streams on real connections: what flows goes straight from the provider's to the caller's."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.edge.api.messages import line, routes
from tests.edge.api.wire import Wire, connected, post, served
from tests.fakes.upstream import SSE, Answer, chunk, running_upstream

pytestmark = pytest.mark.anyio

ASKED = {"model": "chat", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
CHAT = post("/v1/chat/completions", json.dumps(ASKED).encode())
LONG = 4000
"""Events of 10 KB: more than all buffers on the way hold."""


class Sent:
    """Pieces for a provider to send; knows how far it has come."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces
        self.number = 0

    def __len__(self) -> int:
        return len(self.pieces)

    def __contains__(self, piece: object) -> bool:
        return piece in self.pieces

    def __iter__(self) -> Iterator[bytes]:
        for self.number, piece in enumerate(self.pieces, 1):  # noqa: B020
            yield piece


@asynccontextmanager
async def asked(sent: Sent, tmp_path: Path, sqlite_url: str) -> AsyncIterator[Wire]:
    async with running_upstream() as upstream:
        answer = Answer(headers=SSE, pieces=sent, framing="chunked")
        upstream.always("up", answer)
        provider = {"kind": "openai_compatible", "base_url": upstream.base_url(), "api_key": "sk-1"}
        async with (
            line(tmp_path, sqlite_url, routes(("chat", provider))) as api,
            served(api.edge) as port,
            connected(port) as caller,
        ):
            caller.send(CHAT)
            yield caller


def said(*words: str) -> list[bytes]:
    role = chunk({"role": "assistant", "content": ""})
    events = [chunk({"content": word}) for word in words]
    return [role, *events, chunk({}, "stop"), b"data: [DONE]\n\n"]


async def body_of(reader: asyncio.StreamReader) -> bytes:
    """Return a chunked body; `Wire.answer` is for short ones."""
    await reader.readuntil(b"\r\n\r\n")
    pieces = []
    while size := int(await reader.readline(), 16):
        pieces.append((await reader.readexactly(size + 2))[:-2])
    return b"".join(pieces)


async def test_a_caller_who_reads_late_holds_the_provider_back(tmp_path: Path, sqlite_url: str):
    """What nobody takes stays with the provider; once somebody does, all of it comes."""
    sent = Sent(said(*(f"{number} " + "x" * 10_000 for number in range(LONG))))
    async with asked(sent, tmp_path, sqlite_url) as caller:
        before = -1
        while sent.number != before:
            before = sent.number
            await asyncio.sleep(0.3)
        body = await body_of(caller.reader)

    assert before < LONG
    assert b"".join(sent.pieces) == body
