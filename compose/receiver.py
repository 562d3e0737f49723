"""A webhook receiver on this machine: what a caller's own would do, in a few lines."""

import asyncio
import hmac
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import msgspec
from aiohttp import web

from shared.webhooks.signature import signed_headers

TOLERANCE_S = 300
"""How far a webhook's timestamp may be off; Standard Webhooks suggests five minutes."""


class _Subject(msgspec.Struct):
    id: str


class _Body(msgspec.Struct):
    type: str
    data: _Subject


class Received(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook that came in; `genuine` when its signature and its time are right."""

    type: str
    job_id: str
    genuine: bool


class Receiver:
    """Where to send webhooks, and what came in."""

    def __init__(self, secret: str) -> None:
        self._secret = secret
        self._came: dict[str, Received] = {}
        self._news = asyncio.Event()
        self.url = ""

    async def of_job(self, job_id: str) -> Received:
        """Return the webhook about that job as soon as it is there; it may have come before."""
        while job_id not in self._came:
            self._news.clear()
            await self._news.wait()
        return self._came[job_id]

    async def receive(self, request: web.Request) -> web.Response:
        """Take a webhook; a 2xx says that it need not be sent again."""
        raw = await request.read()
        try:
            body = msgspec.json.decode(raw, type=_Body)
        except msgspec.DecodeError:
            return web.Response(status=400)
        good = genuine(self._secret, request.headers, raw, now_s=time.time())
        self._came[body.data.id] = Received(type=body.type, job_id=body.data.id, genuine=good)
        self._news.set()
        return web.Response(status=204 if good else 401)


@asynccontextmanager
async def receiver(secret: str) -> AsyncIterator[Receiver]:
    """Listen on a free port of the loopback address for the length of the block."""
    listening = Receiver(secret)
    app = web.Application()
    app.router.add_post("/webhook", listening.receive)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        listening.url = f"http://127.0.0.1:{port}/webhook"
        yield listening
    finally:
        await runner.cleanup()


def genuine(secret: str, headers: Mapping[str, str], body: bytes, *, now_s: float) -> bool:
    """Return whether a webhook was signed with the secret, and lately (Standard Webhooks)."""
    stamp = headers.get("webhook-timestamp", "")
    event_id = headers.get("webhook-id", "")
    if not stamp.isascii() or not stamp.isdigit() or abs(now_s - int(stamp)) > TOLERANCE_S:
        return False
    at = datetime.fromtimestamp(int(stamp), UTC)
    expected = signed_headers([secret], event_id=event_id, at=at, body=body)["webhook-signature"]
    given = headers.get("webhook-signature", "").split(" ")
    return any(hmac.compare_digest(expected.encode(), one.encode()) for one in given)
