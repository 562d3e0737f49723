"""A body that is not held in memory, and may take its time as long as it goes on."""

from collections.abc import AsyncIterator

from litestar.types import Receive, Scope

from api.asgi import BODY_S
from api.connection import CallerGone, connection_of
from shared.clock import Clock
from shared.errors import InvalidRequest, RequestTooLarge

SLOWEST_BYTES_S = 64 * 1024
"""What a caller has to send a second, on the average and apart from the first 30 s."""


async def long_body(
    scope: Scope, receive: Receive, limit_bytes: int, clock: Clock
) -> AsyncIterator[bytes]:
    """Yield the body as it comes. Time counts only while we wait for the caller.

    Raises:
        RequestTooLarge: more than `limit_bytes`.
        InvalidRequest: it came too slowly.
        CallerGone: the connection closed first.
    """
    connection = connection_of(scope)
    if connection is not None:
        connection.take_time()
    received, waited_s, more = 0, 0.0, True
    while more:
        begun_s = clock.monotonic()
        try:
            async with clock.timeout(BODY_S + received / SLOWEST_BYTES_S - waited_s):
                message = await receive()
        except TimeoutError as error:
            raise InvalidRequest(
                f"The body came too slowly: less than {SLOWEST_BYTES_S // 1024} KiB a second."
            ) from error
        if message["type"] != "http.request":
            raise CallerGone("The caller left before its request was whole.")
        waited_s += clock.monotonic() - begun_s
        received += len(message["body"])
        if received > limit_bytes:
            raise too_large(limit_bytes)
        more = message["more_body"]
        if message["body"]:
            yield message["body"]


async def bounded(pieces: AsyncIterator[bytes], limit_bytes: int) -> AsyncIterator[bytes]:
    """Yield the same.

    Raises:
        RequestTooLarge: more than `limit_bytes`.
    """
    size = 0
    async for piece in pieces:
        size += len(piece)
        if size > limit_bytes:
            raise too_large(limit_bytes)
        yield piece


def too_large(limit_bytes: int) -> RequestTooLarge:
    """Return the refusal of a file or a part that is larger."""
    whole, rest = divmod(limit_bytes, 1024 * 1024)
    size = f"{limit_bytes} bytes" if rest else f"{whole} MB"
    return RequestTooLarge(f"The file or part is larger than {size}.")
