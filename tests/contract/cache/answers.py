"""Answers to keep, and ways to look for them."""

import asyncio
import time
from collections.abc import Callable

from shared.cache.entry import Address, AnswerCache, Entry
from shared.chat.usage import Usage


def at(digest: str = "d1", *, tenant: str = "acme", model: str = "gpt") -> Address:
    return Address(tenant=tenant, model=model, digest=digest)


def entry(body: bytes = b'{"said": "hello"}') -> Entry:
    return Entry(
        body=body,
        route="gpt",
        provider="openai",
        model="gpt-1",
        reported_model="gpt-1-1",
        usage=Usage(input_tokens=3, output_tokens=2),
        cost_nanousd=7_000,
        dropped=("top_k",),
    )


async def kept(cache: AnswerCache, address: Address, answer: Entry | None = None) -> None:
    """Keep an answer as a call does: look first."""
    looked = await cache.look(address)
    assert looked is not None
    cache.keep(address, answer or entry(), looked.mark)
    await asyncio.sleep(0)  # it leaves with what else this turn of the loop has to send


async def found(cache: AnswerCache, address: Address) -> Entry | None:
    looked = await cache.look(address)
    assert looked is not None
    return looked.entry


async def eventually(look: Callable[[], bool], within_s: float = 5.0) -> None:
    """Return once it is true."""
    give_up_at = time.monotonic() + within_s
    while not look():
        assert time.monotonic() < give_up_at, "it did not become true"
        await asyncio.sleep(0.01)
