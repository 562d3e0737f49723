"""PostgreSQL connections that let go at once when their work is cancelled."""

import asyncio
from typing import Any, TypeVar

import psycopg
from psycopg import waiting
from psycopg.abc import PQGen
from typing_extensions import override

INTERVAL_S = 0.1
"""How often a wait looks up, as psycopg has it."""

T = TypeVar("T")


class PromptConnection(psycopg.AsyncConnection[tuple[Any, ...]]):
    """Hangs up when a wait is cancelled.

    psycopg's own asks the server to cancel, over a new connection, and waits for the answer: some
    20 s each time when the database is slow, and a caller's time limit means nothing then. What a
    server still runs for us ends by its statement timeout; the pool throws the connection away.
    """

    @override
    async def wait(
        self, gen: PQGen[T], interval: float = INTERVAL_S, timeout: float | None = None
    ) -> T:
        """Run the generator of an operation to its end, or hang up."""
        try:
            return await waiting.wait_async(
                gen, self.pgconn.socket, interval=interval, timeout=timeout
            )
        except asyncio.CancelledError:
            self.pgconn.finish()
            raise
