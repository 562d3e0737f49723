"""One attempt for a whole answer: one call, or the several that its question is asked in."""

import asyncio
from collections.abc import Sequence

from shared.attempts.in_time import beginning_in_time
from shared.clock import Clock
from shared.config.model import Timeouts
from shared.errors import FailureKind, StoreUnavailable, UpstreamError
from shared.providers.exchange import (
    SUCCESS,
    Exchange,
    HttpRequest,
    HttpResponse,
    Reply,
    Transport,
)
from shared.providers.fanned import MOST_AT_ONCE, FannedExchange

MAX_ANSWER_BYTES = 32 * 1024 * 1024
"""Ceiling of one whole answer; embeddings of a large batch come to some 20 MB."""


async def call_whole(
    exchange: Exchange, transport: Transport, *, timeouts: Timeouts, limit_s: float, clock: Clock
) -> Reply:
    """Send, read to the end, and turn it into the served dialect.

    Raises:
        UpstreamError: whatever went wrong; TIMEOUT after `attempt_s` or `limit_s` seconds, or when
            no answer began within `first_byte_s`.
    """
    if timeouts.first_byte_s is not None:
        transport = beginning_in_time(transport, timeouts, clock)
    allowed_s = min(timeouts.attempt_s, limit_s)
    connect_s = min(timeouts.connect_s, allowed_s)
    fanned = exchange if isinstance(exchange, FannedExchange) else None
    answers: list[HttpResponse] = []
    try:
        async with clock.timeout(allowed_s):
            if fanned is not None:
                answers = await _ask_all(exchange, fanned.requests, transport, connect_s)
            else:  # as `_ask` does, without its turn each time that the call wakes up
                async with transport.open(exchange.request, connect_s=connect_s) as response:
                    answers.append(
                        HttpResponse(
                            status=response.status,
                            headers=response.headers,
                            body=await response.read(MAX_ANSWER_BYTES),
                        )
                    )
    except TimeoutError as error:
        raise UpstreamError(
            FailureKind.TIMEOUT, f"No whole answer within {allowed_s:g} s."
        ) from error
    if fanned is not None:
        return fanned.read_all(answers)
    if answers[0].status in SUCCESS:
        return exchange.read(answers[0])
    raise exchange.error_of(answers[0])


async def _ask(request: HttpRequest, transport: Transport, connect_s: float) -> HttpResponse:
    async with transport.open(request, connect_s=connect_s) as response:
        return HttpResponse(
            status=response.status,
            headers=response.headers,
            body=await response.read(MAX_ANSWER_BYTES),
        )


async def _ask_all(
    exchange: Exchange, requests: Sequence[HttpRequest], transport: Transport, connect_s: float
) -> list[HttpResponse]:
    """Return the answers of all parts, in order; the first failure cancels the other calls.

    Raises:
        UpstreamError, StoreUnavailable: that failure; `billed` when other parts had been answered
            by then.
    """
    slots = asyncio.Semaphore(MOST_AT_ONCE)
    answered = 0

    async def ask(request: HttpRequest) -> HttpResponse:
        nonlocal answered
        async with slots:
            answer = await _ask(request, transport, connect_s)
        if answer.status not in SUCCESS:
            raise exchange.error_of(answer)
        answered += 1
        return answer

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(ask(request)) for request in requests]
    except BaseExceptionGroup as failures:
        error = failures.exceptions[0]
        if isinstance(error, UpstreamError | StoreUnavailable):
            error.billed = answered > 0
        raise error from None
    return [task.result() for task in tasks]
