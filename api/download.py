"""An object sent to a caller, piece by piece."""

from collections.abc import AsyncIterator

from litestar.types import Receive, Scope, Send

from api.asgi import Sender, while_taken
from api.connection import CallerGone, connection_of, while_connected
from shared.clock import Clock

PIECE_BYTES = 64 * 1024
"""A caller that takes less than this in 15 s is given up."""


class Download:
    """An ASGI answer of `size` bytes; one that breaks in the middle never looks whole.

    Without a size, one that is as long as it turns out to be.
    """

    def __init__(
        self,
        pieces: AsyncIterator[bytes],
        *,
        size: int | None,
        headers: list[tuple[bytes, bytes]],
        clock: Clock,
    ) -> None:
        self._pieces = pieces
        self._head = list(headers)
        if size is not None:
            self._head.append((b"content-length", b"%d" % size))
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; somebody who leaves ends the reading."""
        sender = Sender(send)
        try:
            with (
                while_connected(receive, connection=connection_of(scope)),
                while_taken(sender, self._clock, _nothing),
            ):
                await self._send(sender)
        except CallerGone:
            return

    async def _send(self, send: Sender) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self._head})
        async for piece in self._pieces:
            for at in range(0, len(piece), PIECE_BYTES):
                body = piece[at : at + PIECE_BYTES]
                await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _nothing() -> None:
    """Say nothing in between: there is nothing to be said that is not the answer."""
