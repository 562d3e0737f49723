"""One answer of an HTTP/1.1 server as its reader sees it; a connection fills it.

It belongs to one call and dies with it. A connection that goes on to the next call fills another,
so nothing of one caller can reach the next.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from functools import lru_cache
from typing import Protocol

from typing_extensions import override

from shared.errors import StoreUnavailable, UpstreamError
from shared.providers.exchange import PushedChunks, Taker
from shared.providers.http1_failures import broke_off, too_large


class Source(Protocol):
    """The connection that fills an answer."""

    def resume(self) -> None:
        """Read on: what had been buffered is gone."""

    def abandon(self) -> None:
        """Close at once: nobody wants the rest."""


class Headers(Mapping[str, str]):
    """Header values by name in any case; of a repeated name the first value."""

    __slots__ = ("_lines",)

    def __init__(self, lines: Mapping[bytes, bytes]) -> None:
        self._lines = lines

    @override
    def __getitem__(self, name: str) -> str:
        try:
            return _text(self._lines[name.lower().encode("latin-1")])
        except (KeyError, UnicodeEncodeError):
            raise KeyError(name) from None

    @override
    def get(self, name: str, default: object = None) -> object:  # type: ignore[override]
        """Return the value, or the default: no exception on the way, for most look-ups miss."""
        value = self._lines.get(_wire_name(name))
        return default if value is None else _text(value)

    @override
    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.get(name) is not None

    @override
    def __iter__(self) -> Iterator[str]:
        return map(_text, self._lines)

    @override
    def __len__(self) -> int:
        return len(self._lines)


class Answer:
    """What has arrived of an answer, and one reader who waits for more.

    `opened` once the head is there, `ended` once the body is whole, `failure` when neither will
    come to pass. `unheard`: the connection ended before a single byte had come.
    """

    __slots__ = (
        "_headers",
        "_loop",
        "_pieces",
        "_source",
        "_waiter",
        "buffered_bytes",
        "ended",
        "failure",
        "opened",
        "paused",
        "status",
        "taker",
        "unheard",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.status = 0
        self.opened = False
        self.ended = False
        self.failure: UpstreamError | StoreUnavailable | None = None
        self.unheard = False
        self.buffered_bytes = 0
        self.paused = False
        self._headers: Mapping[bytes, bytes] = {}
        self._loop = loop
        self._pieces: list[bytes] = []
        self._source: Source | None = None
        self._waiter: asyncio.Future[None] | None = None
        self.taker: Taker | None = None

    # The reader's side.

    @property
    def headers(self) -> Headers:
        """Header values by name in any case."""
        return Headers(self._headers)

    async def read(self, limit_bytes: int) -> bytes:
        """Return the rest of the body.

        Raises:
            UpstreamError: MALFORMED above `limit_bytes`, CONNECTION when it breaks off.
        """
        taken: list[bytes] = []
        size_bytes = 0
        while True:
            size_bytes += self.buffered_bytes
            if size_bytes > limit_bytes:
                raise too_large(limit_bytes, status=self.status)
            if self.failure is not None:
                raise self.failure
            if self.ended and not taken:
                return self.take()
            taken.append(self.take())
            if self.ended:
                return b"".join(taken)
            await self.more()

    def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body's bytes as they arrive; what came together is handed out together.

        Raises:
            UpstreamError: CONNECTION when it breaks off, after all that came before.
        """
        return _Chunks(self)

    def more(self) -> asyncio.Future[None]:
        """Return what is done when something has happened since."""
        self._waiter = waiter = self._loop.create_future()
        return waiter

    def take(self) -> bytes:
        """Return what is buffered, and let the connection read on."""
        pieces = self._pieces
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self.buffered_bytes = 0
        if self.paused:
            self.paused = False
            if self._source is not None:
                self._source.resume()
        return data

    def leave(self) -> None:
        """Say that nobody reads any more; an answer under way is cut at once."""
        source, self._source = self._source, None
        if source is not None:
            self.failure = broke_off("it was given up")
            source.abandon()

    # The connection's side.

    def begin(self, source: Source) -> None:
        """Take a connection; it has the call until `end` or `fail`."""
        self._source = source

    def open(self, status: int, headers: Mapping[bytes, bytes]) -> None:
        """Take the head; header names are lower case. As after `add`, `arrived` must follow."""
        self.status = status
        self._headers = headers
        self.opened = True

    def add(self, piece: bytes) -> None:
        """Take some bytes of the body; nobody hears of them before `arrived`, `end` or `fail`."""
        self._pieces.append(piece)
        self.buffered_bytes += len(piece)

    def arrived(self) -> None:
        """Have what has come taken at once, or else the reader look at it, if one waits."""
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        pieces, taker = self._pieces, self.taker
        if taker is None or not pieces:
            waiter.set_result(None)
        elif taker(pieces[0] if len(pieces) == 1 else b"".join(pieces)):
            pieces.clear()
            self.buffered_bytes = 0
        else:
            waiter.set_result(None)

    def push(self, piece: bytes) -> bool:
        """Take a piece of the body as it comes: `add` and `arrived` in one.

        Returns True where it has been taken on at once, so that nothing is buffered.
        """
        waiter = self._waiter
        if waiter is None or waiter.done():
            self.add(piece)
            return False
        taker = self.taker
        if taker is not None and not self._pieces and taker(piece):
            return True
        self.add(piece)
        waiter.set_result(None)
        return False

    def end(self) -> None:
        """Take the body's orderly end."""
        self._source = None
        self.ended = True
        self._wake()

    def fail(
        self, failure: UpstreamError | StoreUnavailable, cause: BaseException | None = None
    ) -> None:
        """Take the reason why the rest will never come."""
        self._source = None
        failure.__cause__ = cause
        self.failure = failure
        self._wake()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


class _Chunks(PushedChunks):
    """No generator: one that is given up in the middle would wait for the loop to close it."""

    __slots__ = ("_answer",)

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    @override
    def pass_to(self, taker: Taker | None) -> None:
        self._answer.taker = taker

    @override
    def ended(self) -> bool:
        return self._answer.ended and not self._answer.buffered_bytes

    @override
    async def piece(self) -> bytes | None:
        answer = self._answer
        while not answer.buffered_bytes:
            if answer.failure is not None:
                raise answer.failure
            if answer.ended:
                return None
            await answer.more()
        return answer.take()


@lru_cache(maxsize=256)
def _wire_name(name: str) -> bytes:
    return name.lower().encode("latin-1", "replace")


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")
