"""What the chain sees of a provider: one Exchange per attempt, whatever its wire format.

Relay and translate differ only in who builds the Exchange. Everything here is values and pure
protocols; the sockets are in `transport.py`.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Protocol

import msgspec
from typing_extensions import override

from shared.chat.usage import Usage
from shared.errors import UpstreamError

SUCCESS = range(200, 300)
"""The statuses of an answer."""


class HttpRequest(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One HTTP/1.1 request to a provider. Headers are complete but for Host and lengths."""

    method: str = "POST"
    url: str
    headers: Mapping[str, str]
    body: bytes


class HttpResponse(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A whole answer; header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


Taker = Callable[[bytes], bool]
"""Takes bytes at once, or returns False: then they have to go the long way."""


class Pieces(AsyncIterator[bytes]):
    """Bytes as they come. They can be iterated, too, which ends in an exception more."""

    __slots__ = ()

    @abstractmethod
    async def piece(self) -> bytes | None:
        """Return the next bytes, which may be none, or None after the last."""

    @override
    async def __anext__(self) -> bytes:
        piece = await self.piece()
        if piece is None:
            raise StopAsyncIteration
        return piece


def piece_by_piece(pieces: AsyncIterator[bytes]) -> Callable[[], Awaitable[bytes | None]]:
    """Return what gives the next of them each time, and None after the last."""
    return pieces.piece if isinstance(pieces, Pieces) else partial(anext, pieces, None)


class PushedChunks(Pieces):
    """The bytes of an answer, of which not all have to wait for the reader's task to be woken."""

    __slots__ = ()

    @abstractmethod
    def pass_to(self, taker: Taker | None) -> None:
        """Offer `taker` from now on what arrives while the reader waits, and nothing else.

        What it takes the reader does not see. What it does not take comes to the reader, first of
        all and maybe with more behind it, and `taker` is not asked again before that.
        """

    @abstractmethod
    def ended(self) -> bool:
        """Return whether all has come and been read: nothing is to be waited for."""


class OpenResponse(Protocol):
    """An answer whose head has arrived."""

    @property
    def status(self) -> int:
        """The HTTP status."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Header values by lower-case name."""

    async def read(self, limit_bytes: int) -> bytes:
        """Return the rest of the body.

        Raises:
            UpstreamError: MALFORMED above `limit_bytes`, CONNECTION when it breaks off.
        """

    def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body's bytes as they arrive.

        Raises:
            UpstreamError: CONNECTION when it breaks off.
        """


class Transport(Protocol):
    """Bytes out, bytes in. Leaving the context cancels the call and frees the connection.

    Nothing leaves before the errands of the loop's cork are done: the books are written so.
    """

    def open(
        self, request: HttpRequest, *, connect_s: float
    ) -> AbstractAsyncContextManager[OpenResponse]:
        """Send and wait for the head; 1xx skipped, redirects not followed, nothing decompressed.

        Raises:
            UpstreamError: TIMEOUT when connecting takes longer than `connect_s`, else CONNECTION.
            StoreUnavailable: an errand of the loop's cork failed; nothing was sent.
        """


class Reply(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A whole answer in the served dialect.

    `usage` is None when the provider sent none. `model` is what the provider reported.
    `media_type` is that of the body, None for JSON.
    """

    body: bytes
    model: str | None = None
    usage: Usage | None = None
    finish_reason: str | None = None
    media_type: str | None = None


class Scan(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a piece of a stream held, in the served dialect.

    `out` is what to send on (may be empty). `content_events` counts events with text or a tool
    call, at least one where there are any; the first of them is the first token. `finished` means a
    finish reason has been seen at some time, `ended` the protocol's own end mark. `error` ends the
    attempt.
    """

    out: bytes = b""
    content_events: int = 0
    finished: bool = False
    ended: bool = False
    error: UpstreamError | None = None


class StreamScanner(Protocol):
    """Fed the bytes of one stream, however they are cut; keeps what has been learnt."""

    model: str | None
    usage: Usage | None
    finished: bool
    content_bytes: int
    """UTF-8 bytes of text and tool arguments seen, roughly; for estimates after a cut."""
    service_tier: str | None
    """The last one told, with or without counts: what is cut off has the price of that."""

    def feed(self, chunk: bytes) -> Scan:
        """Take the next bytes. After `ended` nothing more is needed."""

    def finish(self) -> Scan:
        """Take the orderly end of the connection: `error` is set unless the answer was whole."""

    def closing(self, cost_usd: str | None) -> bytes:
        """Return what the caller still gets after the last event: usage chunk (if asked), end mark.

        Held back by the scanner so that the usage chunk can carry `sluiceway.cost_usd`.
        """


class PlainScanner(ABC):
    """A scanner that, after some events, knows at a glance which others are words and no more."""

    @abstractmethod
    def plain(self, chunk: bytes) -> bytes | None:
        """Take a chunk that is events of words and nothing else; return what of it goes on.

        None where it may be anything else: it has not been taken, and `feed` has to.
        """


class Exchange(Protocol):
    """One attempt's conversation with one target.

    `dropped` are the caller's fields that this target cannot be asked.
    """

    request: HttpRequest
    dropped: tuple[str, ...]

    def read(self, response: HttpResponse) -> Reply:
        """Turn a 2xx answer into the served dialect.

        Raises:
            UpstreamError: MALFORMED (not JSON, HTML, unrequested Content-Encoding) or what an
                error body inside a 2xx says.
        """

    def error_of(self, response: HttpResponse) -> UpstreamError:
        """Turn any other answer into a failure, decided by status and typed body."""

    def refuse_head(self, status: int, headers: Mapping[str, str]) -> UpstreamError | None:
        """Refuse a stream at the door: None for a 2xx event stream, else why not."""

    def scanner(self) -> StreamScanner:
        """Return a fresh scanner for this exchange's stream."""
