"""Calls that stop on their way go on together; one cancelled there goes no further."""

import asyncio

import pytest

from shared.crowd import NEXT_TURN

pytestmark = pytest.mark.anyio


async def test_all_walk_one_part_before_any_walks_the_next() -> None:
    walked: list[str] = []

    async def walk(name: str) -> None:
        walked.append(f"{name} looks")
        await NEXT_TURN
        walked.append(f"{name} asks")

    await asyncio.gather(walk("first"), walk("second"))

    assert ["first looks", "second looks", "first asks", "second asks"] == walked


async def test_who_is_cancelled_there_goes_no_further() -> None:
    walked: list[str] = []

    async def walk() -> None:
        await NEXT_TURN
        walked.append("on")

    task = asyncio.get_running_loop().create_task(walk())
    await NEXT_TURN  # it has come as far
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert [] == walked
