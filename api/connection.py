"""A caller's connection while its answer is being made: whoever leaves cancels the work."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from litestar.types import Receive, Scope

from api.closing import Closing
from shared.errors import GatewayError, Overloaded

CONNECTION = "sluiceway.connection"
"""The ASGI extension under which our server hands out the caller's connection."""


class CallerGone(GatewayError):
    """The connection closed before the answer was sent; nobody reads what we would say."""


class Connection(Protocol):
    """What our server says of a caller's connection; see `connection_of`.

    `headers` are the request's by lower-case name, the last of a repeated one. `loop` serves it.
    """

    headers: dict[bytes, bytes]
    loop: asyncio.AbstractEventLoop

    def watch(self, gone: Callable[[], None]) -> None:
        """Have `gone` called when the connection is lost, at once if it is."""

    def unwatch(self) -> None:
        """Forget what `watch` was given."""

    def take_time(self) -> None:
        """Leave it to whoever reads the body how long it may take."""

    def take_whole(self) -> bytes | None:
        """Return what nobody has taken of the body once that has arrived whole, else None.

        What has not is waited for as ASGI has it.
        """


def connection_of(scope: Scope) -> Connection | None:
    """Return the caller's connection where our own server runs the app, else None.

    Asking it costs nothing; the ASGI way, a task that waits for `http.disconnect`, costs 15 µs.
    """
    extensions: Mapping[str, object] | None = scope.get("extensions")
    return extensions.get(CONNECTION) if extensions else None  # type: ignore[return-value]


class while_connected:  # noqa: N801 (reads as what it does; a class because a generator costs twice)
    """Cancel what runs inside as soon as the caller's connection closes, or at `closing`.

    Raises:
        CallerGone: the connection closed.
        GatewayError: what `last_word` returns: this process is about to end.
    """

    def __init__(
        self,
        receive: Receive,
        closing: Closing | None = None,
        last_word: Callable[[], GatewayError] = lambda: Overloaded("The gateway is stopping."),
        connection: Connection | None = None,
    ) -> None:
        self._receive = receive
        self._closing = closing
        self._last_word = last_word
        self._connection = connection
        self._work: asyncio.Task[Any] | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._why: GatewayError | None = None

    def __enter__(self) -> None:
        connection = self._connection
        if connection is not None:
            self._work = asyncio.current_task(connection.loop)
            connection.watch(self._gone)
        else:
            self._work = asyncio.current_task()
            self._watcher = asyncio.create_task(self._watch())
        if self._closing is not None:
            self._closing.add(self._close)

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if self._connection is not None:
            self._connection.unwatch()
        if self._watcher is not None:
            self._watcher.cancel()
        if self._closing is not None:
            self._closing.discard(self._close)
        if self._why is not None and isinstance(error, asyncio.CancelledError):
            if self._work is not None and self._work.uncancel() > 0:
                return  # somebody else's cancel, too
            raise self._why from None

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._gone()

    def _gone(self) -> None:
        self._end(CallerGone("The caller left before the answer."))

    def _close(self) -> None:
        self._end(self._last_word())

    def _end(self, error: GatewayError) -> None:
        if self._why is None and self._work is not None:
            self._why = error
            self._work.cancel()
