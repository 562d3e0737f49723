"""A provider on a real socket: scripted answers, faults on the wire, and a record of what came.

One server plays any number of providers, told apart by the first part of the path:

    upstream.script("alpha", status(503))
    upstream.script("beta", says("hello"))
    base_url = upstream.base_url("beta")
"""

import asyncio
import contextlib
import json
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Literal

import msgspec

JSON = {"content-type": "application/json"}
SSE = {"content-type": "text/event-stream"}
LOOK_S = 0.005


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """A request as it came; header names are lower case."""

    provider: str
    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int

    @property
    def json(self):
        return json.loads(self.body)


class Connection(msgspec.Struct, kw_only=True):
    """A caller's connection; `closed` is set once the caller has gone."""

    number: int
    port: int
    """The caller's own."""
    closed: asyncio.Event
    opened_at_s: float
    closed_at_s: float | None = None


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What to send. `pieces` go out one by one, `gap_s` apart; then comes the `end`.

    Framing: by `content-length`, in chunks, or by closing the connection. Ends: in order, by a
    reset, by an orderly close (whatever the framing had promised), or never.
    """

    status: int = 200
    headers: Mapping[str, str] = msgspec.field(default_factory=lambda: JSON)
    pieces: Collection[bytes] = ()
    wait_s: float = 0.0
    """How long the head takes."""
    held: Callable[[], bool] | None = None
    """The head waits for as long as this says so."""
    gap_s: float = 0.0
    pauses: Mapping[int, float] = msgspec.field(default_factory=dict)
    """Seconds to wait before the piece of that number, beside the gap."""
    framing: Literal["length", "chunked", "close"] = "length"
    end: Literal["orderly", "reset", "eof", "stall"] = "orderly"
    before_head: Literal["nothing", "reset", "silence"] = "nothing"
    raw: bytes | None = None
    """Sent instead of everything else."""


Script = Answer | Callable[[Recorded], Answer]
"""An answer, or what makes one from the request."""


def status(code: int, error: object = None, **headers: str) -> Answer:
    """An error in OpenAI's shape; header names with underscores for hyphens."""
    error = error or {"message": f"scripted {code}", "type": "server_error", "code": None}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = json.dumps({"error": error}).encode()
    return Answer(status=code, headers={**JSON, **named}, pieces=(body,))


def says(text: str, *, model: str = "fake-1", usage: Mapping[str, object] | None = None) -> Answer:
    """A whole chat completion."""
    return Answer(pieces=(json.dumps(completion(text, model=model, usage=usage)).encode(),))


def completion(
    text: str, *, model: str = "fake-1", usage: Mapping[str, object] | None = None
) -> dict[str, object]:
    """The body of a whole chat completion."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, "refusal": None},
                "finish_reason": "stop",
                "logprobs": None,
            }
        ],
        "usage": usage or {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    }


def chunk(
    delta: Mapping[str, object] | None = None, finish: str | None = None, **fields: object
) -> bytes:
    """One event of a stream."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "fake-1",
        "choices": choices,
        **fields,
    }
    return b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


def events(words: Iterable[str], *, usage: Mapping[str, object] | None = None) -> tuple[bytes, ...]:
    """The events of a whole stream: role, words, finish, usage when given, end mark."""
    counted = () if usage is None else (chunk(usage=usage),)
    return (
        chunk({"role": "assistant", "content": ""}),
        *(chunk({"content": word}) for word in words),
        chunk({}, "stop"),
        *counted,
        DONE,
    )


def streams(*words: str, usage: Mapping[str, object] | None = None, **how: object) -> Answer:
    """A stream of these words; `how` are fields of Answer."""
    return sse(events(words, usage=usage), **how)


def sse(pieces: Iterable[bytes], **how: object) -> Answer:
    """Any event stream; `how` are fields of Answer."""
    return msgspec.structs.replace(
        Answer(headers=SSE, pieces=tuple(pieces), framing="chunked"), **how
    )


def byte_by_byte(answer: Answer) -> Answer:
    """The same answer, each byte in a piece of its own."""
    pieces = tuple(bytes([byte]) for byte in b"".join(answer.pieces))
    return msgspec.structs.replace(answer, pieces=pieces)


class Upstream:
    """The running server. Without a script a provider says `ok`; a last script repeats not."""

    def __init__(self) -> None:
        self.port = 0
        self.scheme = "http"
        self.requests: list[Recorded] = []
        self.connections: list[Connection] = []
        self.otherwise: Script = says("ok")
        self._scripts: dict[str, deque[Script]] = {}
        self._always: dict[str, Script] = {}
        self._arrived = asyncio.Condition()

    def base_url(self, provider: str = "up") -> str:
        """What stands before `/chat/completions`."""
        return f"{self.scheme}://127.0.0.1:{self.port}/{provider}/v1"

    def script(self, provider: str, *answers: Script) -> None:
        """Add answers, one for each next request."""
        self._scripts.setdefault(provider, deque()).extend(answers)

    def always(self, provider: str, answer: Script) -> None:
        """Give this answer whenever nothing else is scripted."""
        self._always[provider] = answer

    def asked(self, provider: str = "up") -> list[Recorded]:
        """The requests one provider got."""
        return [request for request in self.requests if request.provider == provider]

    async def wait_for_requests(self, count: int) -> None:
        """Return when so many requests have come in all."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: len(self.requests) >= count)

    @property
    def open_connections(self) -> int:
        """How many callers are connected now."""
        return sum(connection.closed_at_s is None for connection in self.connections)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until either side ends it."""
        loop = asyncio.get_running_loop()
        connection = Connection(
            number=len(self.connections),
            port=writer.get_extra_info("peername")[1],
            closed=asyncio.Event(),
            opened_at_s=loop.time(),
        )
        self.connections.append(connection)
        try:
            while (request := await _read(reader, connection.number)) is not None:
                async with self._arrived:
                    self.requests.append(request)
                    self._arrived.notify_all()
                if not await self._send(self._next(request), reader, writer):
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            connection.closed_at_s = loop.time()
            connection.closed.set()
            writer.close()

    def forget_scripts(self) -> None:
        """Answer `ok` again, whoever asks."""
        self._scripts.clear()
        self._always.clear()

    def _next(self, request: Recorded) -> Answer:
        waiting = self._scripts.get(request.provider)
        script = waiting.popleft() if waiting else None
        if script is None:
            script = self._always.get(request.provider, self.otherwise)
        return script(request) if callable(script) else script

    async def _send(
        self, answer: Answer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Send one answer; return whether the connection may go on."""
        if answer.wait_s and await _gone(reader, answer.wait_s):
            return False
        while answer.held is not None and answer.held():
            if await _gone(reader, LOOK_S):
                return False
        if answer.raw is not None:
            writer.write(answer.raw)
            await writer.drain()
            return False
        if answer.before_head == "silence":
            await _gone(reader)
            return False
        if answer.before_head == "reset":
            _reset(writer)
            return False
        writer.write(_head(answer))
        for number, piece in enumerate(answer.pieces):
            pause_s = answer.pauses.get(number, 0.0) + (answer.gap_s if number else 0.0)
            if pause_s and await _gone(reader, pause_s):
                return False
            if writer.is_closing():  # the caller has gone; uvloop would call writing a bug
                return False
            writer.write(_framed(piece, answer))
            await writer.drain()
        return await self._end(answer, reader, writer)

    async def _end(
        self, answer: Answer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        if answer.end == "stall":
            await _gone(reader)
            return False
        if answer.end == "reset":
            # What was written must arrive first: a reset throws away what the other has not read.
            await _gone(reader, 0.05)
            _reset(writer)
            return False
        if answer.end == "eof" or answer.framing == "close":
            return False
        if answer.framing == "chunked":
            writer.write(b"0\r\n\r\n")
            await writer.drain()
        return True


@asynccontextmanager
async def running_upstream(tls: ssl.SSLContext | None = None) -> AsyncIterator[Upstream]:
    """Yield a server on a port of the system's choice; all of it ends with the block."""
    upstream = Upstream()
    upstream.scheme = "https" if tls else "http"
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        tasks.add(task)
        try:
            await upstream.serve(reader, writer)
        except asyncio.CancelledError:
            # Only this block cancels; a cancelled handler would be reported as a fault.
            pass
        finally:
            tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    upstream.port = server.sockets[0].getsockname()[1]
    try:
        yield upstream
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _read(reader: asyncio.StreamReader, connection: int) -> Recorded | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode().split("\r\n")
    method, path, _ = first.split(" ")
    headers = {}
    for line in filter(None, lines):
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Recorded(
        provider=path.split("/")[1],
        method=method,
        path=path,
        headers=headers,
        body=body,
        connection=connection,
    )


def _head(answer: Answer) -> bytes:
    headers = dict(answer.headers)
    if answer.framing == "length":
        headers["content-length"] = str(sum(map(len, answer.pieces)) + (answer.end == "eof"))
    elif answer.framing == "chunked":
        headers["transfer-encoding"] = "chunked"
    else:
        headers["connection"] = "close"
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {answer.status} Scripted\r\n{lines}\r\n".encode()


def _framed(piece: bytes, answer: Answer) -> bytes:
    if answer.framing != "chunked":
        return piece
    return f"{len(piece):x}\r\n".encode() + piece + b"\r\n"


async def _gone(reader: asyncio.StreamReader, limit_s: float | None = None) -> bool:
    """Wait until the caller goes away, at most so long; return whether it did."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(limit_s):
            await reader.read(1)
            return True
    return False


def _reset(writer: asyncio.StreamWriter) -> None:
    import socket
    import struct

    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
