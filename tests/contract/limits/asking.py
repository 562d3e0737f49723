"""A process of callers that ask a limiter all the time: `python -m … URL OWNER CALLERS LENGTH_S`.

It says `ready`, begins when its input ends, and prints how many calls were admitted, and when it
asked first and last, in seconds since 1970.
"""

import asyncio
import json
import sys
import time

from shared.clock import SystemClock
from shared.errors import RateLimitExceeded
from shared.limits.limiter import Limiter
from shared.limits.wiring import open_limiter
from tests.contract.limits.calls import scope

TENANT, TARGET = scope(rpm=6000), scope("target:openai/m", rpm=60_000, tpm=9_000_000)


async def ask(limiter: Limiter, name: str, ends_s: float) -> tuple[int, float]:
    """Ask until that moment; return how many calls were admitted, and when the last answer came."""
    admitted, last_s, number = 0, 0.0, 0
    while time.time() < ends_s:
        number += 1
        try:
            taken = await limiter.take(
                (TENANT, TARGET), tokens=50, slot=f"{name}-{number}", slot_s=60
            )
        except RateLimitExceeded:
            last_s = time.time()
            await asyncio.sleep(0.02)
        else:
            last_s = time.time()
            admitted += 1
            limiter.give_back(taken, used_tokens=20)
    return admitted, last_s


async def main(url: str, owner: str, callers: int, length_s: float) -> None:
    """Ask and tell."""
    async with open_limiter(url, owner=owner, policy="deny", clock=SystemClock()) as limiter:
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)
        began_s = time.time()
        found = await asyncio.gather(
            *(ask(limiter, f"{owner}-{one}", began_s + length_s) for one in range(callers))
        )
    admitted = sum(number for number, _ in found)
    print(json.dumps([admitted, began_s, max(last_s for _, last_s in found)]), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))
