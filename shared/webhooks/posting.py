"""A POST to a receiver, over connections that only lead where the guard allows."""

import asyncio
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from email.utils import parsedate_to_datetime

import aiohttp
from aiohttp.abc import AbstractResolver

from shared.webhooks.egress import Network
from shared.webhooks.guard import guarded_connector, refused
from shared.webhooks.schedule import MOST_SAID, Outcome

MOST_READ_BYTES = 64 * 1024
KEPT_BYTES = 1024

USER_AGENT = "sluiceway-webhooks/1"


async def send(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    now: datetime,
    *,
    allowed: Sequence[Network],
    names: AbstractResolver | None = None,
) -> Outcome:
    """Return what the receiver answers, or why there is no answer. The caller bounds the time.

    `now` is what a date in its Retry-After is compared with; `names` replaces the system's
    resolver in tests.
    """
    connector = guarded_connector(allowed, encrypted=url.startswith("https:"), names=names)
    session = aiohttp.ClientSession(
        connector=connector,
        trust_env=False,
        auto_decompress=False,  # 300 KB of gzip can be 300 MB
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),  # the caller's is around it all
    )
    try:
        async with (
            session,
            session.post(
                url,
                data=body,
                headers={
                    **headers,
                    "content-type": "application/json",
                    "user-agent": USER_AGENT,
                    "accept-encoding": "identity",
                },
                allow_redirects=False,
            ) as answer,
        ):
            return Outcome(
                status_code=answer.status,
                retry_after_s=retry_after_s(answer.headers.get("retry-after"), now),
                answer_head=await _head(answer.content),
            )
    except (aiohttp.ClientError, OSError, ValueError, asyncio.IncompleteReadError) as error:
        return Outcome(error=_reason(error))


async def _head(content: aiohttp.StreamReader) -> bytes:
    """Read the answer up to its cap; return its first KiB. A cut answer was an answer too."""
    head, size = b"", 0
    try:
        while size < MOST_READ_BYTES:
            piece = await content.read(MOST_READ_BYTES - size)
            if not piece:
                break
            size += len(piece)
            head = (head + piece)[:KEPT_BYTES]
    except aiohttp.ClientError:
        pass
    return head


def retry_after_s(value: str | None, now: datetime) -> float | None:
    """Return the seconds that a Retry-After header, a number or a date, asks for; else None."""
    if value is None:
        return None
    try:
        length_s = float(value)
    except ValueError:
        try:
            length_s = (parsedate_to_datetime(value) - now).total_seconds()
        except (ValueError, TypeError):
            return None
    return max(0.0, length_s) if math.isfinite(length_s) else None


def _reason(error: BaseException) -> str:
    """Say why there was no answer, without the receiver's bytes."""
    guard = refused(error)
    if guard is not None:
        return f"refused: {guard}"
    beneath = getattr(error, "os_error", None)
    text = str(beneath if beneath is not None else error)
    return f"{type(error).__name__}: {text}"[:MOST_SAID]
