"""Fake vendors in a thread of their own, for tests that drive real processes.

with running({"openai": OpenAIVendor()}) as vendors:
vendors["openai"].says("hello")
"""

import asyncio
import threading
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from typing import TypeVar

from tests.fakes.vendors.scenes import SceneVendor

START_S = 10.0
V = TypeVar("V", bound=SceneVendor)


@contextmanager
def running(vendors: Mapping[str, V]) -> Iterator[Mapping[str, V]]:
    """Yield the vendors, all of them serving; the thread ends with the block.

    Scenes may be given and records read from any thread: both are appends to a deque or list.
    """
    started = threading.Event()
    found: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve() -> None:
        async with AsyncExitStack() as stack:
            for vendor in vendors.values():
                await stack.enter_async_context(vendor)
            stop = asyncio.Event()
            found.append((asyncio.get_running_loop(), stop))
            started.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="vendors", daemon=True)
    thread.start()
    if not started.wait(START_S):
        raise RuntimeError("the vendors did not start")
    loop, stop = found[0]
    try:
        yield vendors
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(START_S)
