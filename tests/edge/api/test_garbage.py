"""What a call leaves behind: nothing that only the collector finds, hundreds of calls later."""

import asyncio
import gc
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.edge.api.messages import line, routes
from tests.edge.api.wire import connected, post, served
from tests.fakes.upstream import Answer, running_upstream, says, streams

pytestmark = pytest.mark.anyio

HI = [{"role": "user", "content": "hi"}]
CALLS = 5


@contextmanager
def left_behind(found: list[str]) -> Iterator[None]:
    """Note the types of our own objects, made in the block, that had to be collected after it."""
    gc.collect()
    before = {id(one) for one in gc.get_objects()}  # an earlier test's may only come free now
    gc.disable()
    try:
        yield
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        kinds = [type(one) for one in gc.garbage if id(one) not in before]
        found += [one.__name__ for one in kinds if one.__module__.startswith(("api.", "shared."))]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


@pytest.mark.parametrize(
    "said", [says("hello"), streams("hello", "brave")], ids=["whole", "stream"]
)
async def test_a_call_leaves_no_circle_of_references(
    said: Answer, tmp_path: Path, sqlite_url: str
) -> None:
    found: list[str] = []
    asked = {"model": "chat", "messages": HI, "stream": said.framing == "chunked"}
    chat = post("/v1/chat/completions", json.dumps(asked).encode())
    async with running_upstream() as upstream:
        upstream.always("up", said)
        provider = {"kind": "openai_compatible", "base_url": upstream.base_url(), "api_key": "sk-1"}
        async with (
            line(tmp_path, sqlite_url, routes(("chat", provider))) as api,
            served(api.edge) as port,
            connected(port) as caller,
        ):
            await caller.ask(chat)
            with left_behind(found):
                for _ in range(CALLS):
                    answer = await caller.ask(chat)
                    assert 200 == answer.status
                await asyncio.sleep(0.05)  # what is done after the last byte

    assert [] == found
