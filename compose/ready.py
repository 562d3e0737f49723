"""Does the stack serve already?"""

import asyncio

import aiohttp

from compose.children import fate
from compose.folder import CannotStart
from compose.stack import Stack

START_S = 60.0
"""For a slow machine; it usually takes two."""
ANSWER_S = 2.0
LOOK_S = 0.05


async def ready(url: str, stack: Stack) -> None:
    """Return as soon as the API serves.

    Raises:
        CannotStart: a process ended, or it took a minute.
    """
    timeout = aiohttp.ClientTimeout(total=ANSWER_S)
    try:
        async with asyncio.timeout(START_S), aiohttp.ClientSession(timeout=timeout) as client:
            while not await _answers(client, f"{url}/readyz"):
                _check_alive(stack)
                await asyncio.sleep(LOOK_S)
    except TimeoutError as error:
        logs = stack.ours[0].log.parent
        raise CannotStart(
            f"it does not serve after {START_S:g} s; look into its logs: {logs}", code=1
        ) from error


def _check_alive(stack: Stack) -> None:
    for child in stack.dead():
        how = fate(child.ended() or 0)
        words = "".join(f"\n  {line}" for line in child.last_words())
        raise CannotStart(
            f"{child.name} {how} while starting; the end of {child.log}:{words}", code=1
        )


async def _answers(client: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with client.get(url) as answer:
            served: bool = answer.ok
            return served
    except (aiohttp.ClientError, TimeoutError):
        return False
