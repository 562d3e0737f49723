"""Bytes to providers and back over HTTP/1.1, with httptools on bare connections.

The wire and nothing else: no cookies, no proxies from the environment, no redirects, no
decompression, no timeouts but for connecting (first token, idle and attempt are the chain's).
Why there is a client of our own: docs/decisions/0009-own-http-client.md.
"""

import ssl
from contextlib import AbstractAsyncContextManager
from types import TracebackType

import msgspec

from shared.clock import Clock
from shared.errors import FailureKind, UpstreamError
from shared.providers.exchange import HttpRequest, OpenResponse
from shared.providers.http1_answer import Answer
from shared.providers.http1_pool import Pool
from shared.providers.http1_request import IDEMPOTENT, Head, Heads

KEEPALIVE_S = 30.0
"""Idle connections are closed after this; most servers wait longer."""


class Http1Transport:
    """One pool for one event loop; opened at the first call, closed by `aclose`.

    `gather_s`: how long pieces of fast streams are gathered before they are read; 0 for not at all.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        ssl_context: ssl.SSLContext | None = None,
        keepalive_s: float = KEEPALIVE_S,
        gather_s: float = 0.0,
    ) -> None:
        self._clock = clock
        self._gather_s = gather_s
        self._ssl_context = ssl_context
        self._keepalive_s = keepalive_s
        self._heads = Heads()
        self._pool: Pool | None = None

    def open(
        self, request: HttpRequest, *, connect_s: float
    ) -> AbstractAsyncContextManager[OpenResponse]:
        """Send and wait for the head; 1xx skipped, redirects not followed, nothing decompressed.

        Raises:
            UpstreamError: TIMEOUT when connecting (DNS and TLS included) takes longer than
                `connect_s`, MALFORMED when the head is not HTTP, else CONNECTION.
            StoreUnavailable: what has to be on file before could not be written.
        """
        pool = self._pool
        if pool is None:
            pool = self._pool = Pool(
                self._clock,
                keepalive_s=self._keepalive_s,
                gather_s=self._gather_s,
                ssl_context=self._ssl_context,
            )
        return _OpenCall(pool, self._heads, request, connect_s)

    async def aclose(self) -> None:
        """Close all connections; the transport may be used again afterwards."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.aclose()


class _OpenCall(msgspec.Struct, eq=False):
    """The call as a context: entered when the head is there, left with the connection free."""

    _pool: Pool
    _heads: Heads
    _request: HttpRequest
    _connect_s: float
    _answer: Answer | None = None

    async def __aenter__(self) -> Answer:
        head = self._heads.of(self._request)
        pool = self._pool
        connection = pool.take(head.origin)
        answer = self._answer = Answer(pool.loop)
        if connection is None:
            connection = await pool.connect(head.origin, answer, connect_s=self._connect_s)
        else:
            connection.call(answer)
        try:
            connection.send(head, self._request.body)
            while not answer.opened:
                failure = answer.failure
                if failure is None:
                    await answer.more()
                elif connection.reused and _may_repeat(head, answer):
                    answer = self._answer = Answer(pool.loop)
                    connection = await pool.connect(head.origin, answer, connect_s=self._connect_s)
                    connection.send(head, self._request.body)
                else:
                    raise failure
        except BaseException:
            answer.leave()
            raise
        return answer

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._answer is not None:
            # A finished body has given its connection back already; any other is cut here, for
            # an abandoned stream is billed to its end.
            self._answer.leave()


def _may_repeat(head: Head, answer: Answer) -> bool:
    """Return whether the server closed a waiting connection just as the call was sent.

    Not for POST, as with aiohttp: it looks the same when the server died over the call, which may
    have been billed. The chain tries again, and books both.
    """
    return (
        answer.unheard
        and head.method in IDEMPOTENT
        and isinstance(answer.failure, UpstreamError)
        and answer.failure.kind is FailureKind.CONNECTION
    )
