"""One call for a whole answer."""

from shared.clock import Clock
from shared.config.model import Timeouts
from shared.errors import FailureKind, UpstreamError
from shared.providers.exchange import SUCCESS, Exchange, HttpResponse, Reply, Transport

MAX_ANSWER_BYTES = 32 * 1024 * 1024
"""Ceiling of one whole answer; embeddings of a large batch come to some 20 MB."""


async def call_whole(
    exchange: Exchange, transport: Transport, *, timeouts: Timeouts, limit_s: float, clock: Clock
) -> Reply:
    """Send, read to the end, and turn it into the served dialect.

    Raises:
        UpstreamError: whatever went wrong; TIMEOUT after `attempt_s` or `limit_s` seconds.
    """
    allowed_s = min(timeouts.attempt_s, limit_s)
    connect_s = min(timeouts.connect_s, allowed_s)
    try:
        async with (
            clock.timeout(allowed_s),
            transport.open(exchange.request, connect_s=connect_s) as response,
        ):
            answer = HttpResponse(
                status=response.status,
                headers=response.headers,
                body=await response.read(MAX_ANSWER_BYTES),
            )
    except TimeoutError as error:
        raise UpstreamError(
            FailureKind.TIMEOUT, f"No whole answer within {allowed_s:g} s."
        ) from error
    if answer.status in SUCCESS:
        return exchange.read(answer)
    raise exchange.error_of(answer)
