"""A caller on a bare socket: may stop in the middle of anything, and sees each byte that comes."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

import msgspec

HEAD_END = b"\r\n\r\n"


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """The head of an answer; header names are lower case."""

    status: int
    headers: dict[str, str]

    @property
    def closes(self) -> bool:
        """Whether the connection ends after this answer."""
        return self.headers.get("connection") == "close"


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer."""

    head: Head
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)


class Lost(Exception):
    """The connection ended before the answer was whole."""


def get(path: str, key: str = "") -> bytes:
    """Return a GET as bytes."""
    return f"GET {path} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {key}\r\n\r\n".encode()


def post(path: str, body: object, key: str, headers: Mapping[str, str] | None = None) -> bytes:
    """Return a POST of JSON as bytes."""
    raw = json.dumps(body).encode()
    lines = {
        "host": "gateway",
        "authorization": f"Bearer {key}",
        "content-type": "application/json",
        "content-length": str(len(raw)),
        **(headers or {}),
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + raw


class Caller:
    """One connection. Made by `connect`; close it by `close` or `hang_up`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, port: int) -> "Caller":
        """Connect to this machine.

        Raises:
            OSError: nobody listens there.
        """
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=2**20))

    @property
    def port(self) -> int:
        """Its own port."""
        return int(self._writer.get_extra_info("sockname")[1])

    def send(self, data: bytes) -> None:
        """Send bytes, whatever they are."""
        self._writer.write(data)

    async def head(self) -> Head:
        """Return the head of the answer.

        Raises:
            Lost: the connection ended first.
        """
        try:
            lines = (await self._reader.readuntil(HEAD_END)).decode().split("\r\n")
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise Lost(f"before a head: {error}") from error
        pairs = (line.partition(":") for line in lines[1:] if line)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        return Head(status=int(lines[0].split(" ")[1]), headers=headers)

    async def piece(self) -> bytes:
        """Return the next chunk of a chunked body, empty at its end.

        Raises:
            Lost: the connection ended first.
        """
        try:
            size = int(await self._reader.readuntil(b"\r\n"), 16)
            return (await self._reader.readexactly(size + 2))[:-2]
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise Lost(f"in a body: {error}") from error

    async def some(self, count: int) -> bytes:
        """Return the next bytes of a body as they come, fewer only when the connection ends."""
        try:
            return await self._reader.readexactly(count)
        except asyncio.IncompleteReadError as error:
            return error.partial

    async def answer(self) -> Reply:
        """Return a whole answer.

        Raises:
            Lost: the connection ended first.
        """
        head = await self.head()
        if "content-length" in head.headers:
            try:
                body = await self._reader.readexactly(int(head.headers["content-length"]))
            except (asyncio.IncompleteReadError, ConnectionError) as error:
                raise Lost(f"in a body: {error}") from error
            return Reply(head=head, body=body)
        pieces = []
        while piece := await self.piece():
            pieces.append(piece)
        return Reply(head=head, body=b"".join(pieces))

    async def ended(self) -> bool:
        """Return once the other side has ended the connection: True when no byte came first."""
        try:
            return not await self._reader.read(1)
        except ConnectionError:
            return True

    def close(self) -> None:
        """End the connection in order."""
        self._writer.close()

    def hang_up(self) -> None:
        """End the connection at once."""
        self._writer.transport.abort()


@asynccontextmanager
async def crowd() -> AsyncIterator[Callable[[int], Awaitable[Caller]]]:
    """Yield `Caller.connect`; whoever it has connected hangs up at the end of the block."""
    callers: list[Caller] = []

    async def connect(port: int) -> Caller:
        callers.append(await Caller.connect(port))
        return callers[-1]

    try:
        yield connect
    finally:
        for caller in callers:
            caller.hang_up()
        await asyncio.sleep(0)


async def called(port: int, request: bytes) -> Reply:
    """Make one call on a connection of its own.

    Raises:
        OSError, Lost: there was no answer.
    """
    caller = await Caller.connect(port)
    try:
        caller.send(request)
        return await caller.answer()
    finally:
        caller.close()
