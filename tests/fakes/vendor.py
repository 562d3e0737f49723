"""A provider on a real socket in a thread of its own, for tests that drive real processes.

vendor.script("alpha", status(503))
vendor.always("beta", echo)
base_url = vendor.base_url("beta")
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from tests.fakes.upstream import (
    Answer,
    Recorded,
    Upstream,
    events,
    running_upstream,
    says,
    sse,
)

START_S = 10.0
USAGE = {"prompt_tokens": 1000, "completion_tokens": 500, "total_tokens": 1500}


def echo(request: Recorded) -> Answer:
    """Say the last message again, whole or as a stream, whichever was asked."""
    body = request.json
    text = str(body["messages"][-1]["content"])
    if body.get("stream"):
        asked = (body.get("stream_options") or {}).get("include_usage")
        first, *rest = text.split(" ")
        words = (first, *(f" {word}" for word in rest))
        return sse(events(words, usage=USAGE if asked else None))
    return says(text, model=body["model"], usage=USAGE)


def slowly(wait_s: float, request: Recorded) -> Answer:
    """Echo after a while; bind the first argument with `functools.partial`."""
    return msgspec.structs.replace(echo(request), wait_s=wait_s)


@contextmanager
def running_vendor() -> Iterator[Upstream]:
    """Yield an Upstream that echoes and runs in a thread; the thread ends with the block.

    Scripts may be given and records read from any thread: both are appends to a deque or list.
    """
    started = threading.Event()
    found: list[tuple[Upstream, asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve() -> None:
        async with running_upstream() as upstream:
            upstream.otherwise = echo
            stop = asyncio.Event()
            found.append((upstream, asyncio.get_running_loop(), stop))
            started.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="vendor", daemon=True)
    thread.start()
    if not started.wait(START_S):
        raise RuntimeError("the vendor did not start")
    upstream, loop, stop = found[0]
    try:
        yield upstream
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(START_S)
