"""A caller's HTTP/1.1 connection: uvicorn's, bounded in time and size, and strict about framing.

What is wrong with a request before there is one to handle is answered here, in the shape of every
other error, and the connection is closed: nobody knows where the next request would begin.
"""

import asyncio
import math
from collections import deque
from typing import Any, ClassVar, cast

import httptools
from typing_extensions import override
from uvicorn._types import HTTPScope
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from api.cycle import Cycle
from api.errors import answer_of
from api.head import (
    MAX_HEAD_BYTES,
    TOO_LONG,
    Refused,
    check,
    reason_of,
    target_of,
    without_upgrade,
)
from shared.corked import Corked
from shared.errors import InvalidRequest
from shared.ids import new_id
from shared.telemetry.log import get_logger

log = get_logger("api")

KEEP_ALIVE_S = 75
"""How long a connection may lie idle between requests.

Longer than the 60 s of common load balancers: whoever waits shorter closes under a request that
is on its way, which reads as a failure of ours.
"""

MAX_PIPELINED = 8
"""Requests that may wait on a connection behind the one that is being answered."""

MAX_DISCARDED_BYTES = 32 * 1024 * 1024
"""How much of a refused body is thrown away to keep its connection; a longer one closes it."""

LINGER_S = 2.0
"""How long a refusal may take to reach its caller; closing at once could overtake it."""

_LOOKED_AT = frozenset({b"transfer-encoding", b"expect"})


class Protocol(HttpToolsProtocol):
    """One connection. A single timer bounds all that a caller may delay; none starts per request.

    `head_s` counts from a request's first byte to the end of its head, or from connecting to the
    first byte; `body_s` is added for the body.
    """

    head_s: ClassVar[float] = 10.0
    body_s: ClassVar[float] = 30.0

    cycle: Cycle  # type: ignore[assignment]  # of the newest request, and None before the first

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._overdue_at = math.inf  # on the loop's clock; inf while the caller owes us nothing
        self._timer: asyncio.TimerHandle | None = None
        self._in_head = False
        self._in_message = False
        self._last = False  # no further request is read
        self._head_bytes = 0
        self._chunk_bytes = 0
        self._discarded_bytes = 0
        self._running: Cycle | None = None
        self._behind: deque[Cycle] = deque()  # pipelined requests, the next one first

    # What the transport tells

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.transport = Corked(transport, self.loop)
        self._due_in(self.head_s)
        self._look()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.connections.discard(self)
        newest = cast("Cycle | None", self.cycle)
        for cycle in (newest, self._running):  # they are not always the same
            if cycle is not None:
                cycle.lost()
        self.flow.resume_writing()
        if exc is None:
            self.transport.close()
        self.parser = None  # type: ignore[assignment]  # it knows us, too

    @override
    def data_received(self, data: bytes) -> None:
        while not self._last:
            self._chunk_bytes = len(data)
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = self._without_upgrade() + data[upgrade.args[0] :]
                continue
            except httptools.HttpParserError as error:
                self._refuse(reason_of(error))
                return
            if self._in_head:
                self._head_bytes += self._chunk_bytes
                if self._head_bytes > MAX_HEAD_BYTES:
                    self._refuse(TOO_LONG)
            return

    # What the parser finds

    @override
    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._in_head = self._in_message = True
        self._head_bytes = self._discarded_bytes = 0
        self._due_in(self.head_s)

    @override
    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            return  # a trailer must not pass for a header; RFC 9110, 6.5.1 lets us drop it
        name = name.lower()
        if name in _LOOKED_AT:
            self._look_at(name, value)
        self.headers.append((name, value))

    def _look_at(self, name: bytes, value: bytes) -> None:
        match name:
            case b"transfer-encoding" if value.strip().lower() != b"chunked":
                raise Refused("`Transfer-Encoding` must be `chunked` or left out.")
            case b"transfer-encoding" if self.parser.get_http_version() != "1.1":
                raise Refused("`Transfer-Encoding` needs HTTP/1.1.")
            case b"expect" if value.lower() == b"100-continue":
                self.expect_100_continue = self.parser.get_http_version() == "1.1"
            case _:
                pass

    @override
    def on_headers_complete(self) -> None:
        parser = self.parser
        version, method = parser.get_http_version(), parser.get_method()
        headers = dict(self.headers)
        check(version, method, self.headers, headers)
        if self._head_bytes + self._chunk_bytes > MAX_HEAD_BYTES:
            self._check_length()
        if parser.should_upgrade():
            return  # the parser stops after this head; it is read again without the wish
        before = cast("Cycle | None", self.cycle)
        cycle = self.cycle = Cycle(
            self,
            self._scope_of(version, method),
            headers,
            keep_alive=version != "1.0" and parser.should_keep_alive(),
            wait_for_body=self._wait,
        )
        if before is None or before.response_complete:
            self._start(cycle)
        else:
            self.flow.pause_reading()
            self._behind.append(cycle)
        self._in_head = False
        self._overdue_at += self.body_s
        if len(self._behind) > MAX_PIPELINED:
            raise Refused("Too many requests at once on one connection.")

    def _scope_of(self, version: str, method: bytes) -> HTTPScope:
        path, raw_path, query = target_of(self.url)
        return {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": version,
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,  # type: ignore[typeddict-item]
            "root_path": self.root_path,
            "headers": self.headers,
            "state": self.app_state.copy(),
            "method": method.decode("ascii"),
            "path": path,
            "raw_path": raw_path,
            "query_string": query,
        }

    def _start(self, cycle: Cycle) -> None:
        self._running = cycle
        task = self.loop.create_task(cycle.run_asgi(self.app))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    def _check_length(self) -> None:
        # The chunk may hold a body too: only one that is too long as a whole is counted out.
        headers_bytes = sum(len(name) + len(value) + 4 for name, value in self.headers)
        if len(self.url) + headers_bytes > MAX_HEAD_BYTES:
            raise Refused(TOO_LONG)

    @override
    def on_body(self, body: bytes) -> None:
        self.expect_100_continue = False  # it comes, asked for or not
        cycle = self.cycle
        if cycle.response_complete:
            self._discarded_bytes += len(body)
            if self._discarded_bytes > MAX_DISCARDED_BYTES:
                self.transport.close()
        elif cycle.arrived(body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()

    @override
    def on_message_complete(self) -> None:
        if self._in_head:
            return  # a wish for an upgrade, which is not answered
        self._in_message = False
        cycle = self.cycle
        if cycle.response_complete:
            self._due_in(self.config.timeout_keep_alive)
        else:
            self._overdue_at = math.inf
            cycle.more_body = False
            cycle.tell()

    # What uvicorn tells of its answers

    @override
    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        unasked = self.expect_100_continue and self.cycle.more_body
        if self._behind and not self._last:
            self.flow.resume_reading()
            self._start(self._behind.popleft())
        elif self._last or unasked:  # whether a body follows that we did not ask for is open
            self.transport.close()
        else:
            self.flow.resume_reading()
            if not self._in_message:
                self._due_in(self.config.timeout_keep_alive)
            elif self._overdue_at == math.inf:  # refused in the middle of a body that had time
                self._due_in(self.body_s)

    # What the server asks before it ends

    @property
    def unused(self) -> bool:
        """Whether no request has come yet, or not its whole head."""
        return cast("Cycle | None", self.cycle) is None

    @property
    def idle(self) -> bool:
        """Whether the last request was answered and no byte of another has come."""
        return not self.unused and self.cycle.response_complete and not self._in_message

    # Time

    def _due_in(self, length_s: float) -> None:
        self._overdue_at = self.loop.time() + length_s

    def _wait(self) -> None:
        self._overdue_at = math.inf

    def _look(self) -> None:
        """Look whether the caller is late, now and whenever it next could be."""
        left_s = self._overdue_at - self.loop.time()
        if left_s > 0:
            self._timer = self.loop.call_later(min(left_s, self.head_s), self._look)
        elif self._last or not self._in_message:
            self.transport.close()
        elif self._in_head:
            self._refuse(f"The head of the request did not arrive within {self.head_s:g} s.")
        else:
            self._refuse(f"The body did not arrive within {self.body_s:g} s.")

    # What cannot be served

    def _refuse(self, reason: str) -> None:
        """Answer that it is no request, once what came before it is answered, and close."""
        self._last = True
        cycle = cast("Cycle | None", self.cycle)  # None before the first request
        if cycle is not None and cycle.response_complete:
            if self._in_message and not self._in_head:  # its body's rest: it has its answer
                log.info("http.refused", reason=reason)
                self._hang_up()
                return
            cycle = None
        if self._behind or (cycle is not None and (self._in_head or not cycle.more_body)):
            self._behind.clear()
            self._overdue_at = math.inf
            return
        log.info("http.refused", reason=reason)
        if cycle is not None:  # its own body is broken
            cycle.lost()
            if cycle.response_started:
                self.transport.close()
        if not self.transport.is_closing():
            self._say(reason)

    def _say(self, reason: str) -> None:
        status, body, _ = answer_of(InvalidRequest(reason))
        self.transport.write(
            b"HTTP/1.1 %d Bad Request\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\nx-request-id: %s\r\nx-content-type-options: nosniff\r\n"
            b"cache-control: no-store\r\nconnection: close\r\n\r\n%s"
            % (status, len(body), new_id("req").encode(), body)
        )
        self._hang_up()

    def _hang_up(self) -> None:
        """Close once the caller has had time to read what it was told."""
        if not self.transport.can_write_eof():  # TLS
            self.transport.close()
            return
        self.transport.write_eof()
        self._due_in(LINGER_S)
        if self._timer is not None:
            self._timer.cancel()
        self._look()

    def _without_upgrade(self) -> bytes:
        """Return the head as it would be without the wish for another protocol, to be read anew.

        A server may ignore the wish (RFC 9110, 7.8). Java's client wants h2c with its first request
        and sends a body with it, which the parser would not read.
        """
        parser = self.parser
        version, method = parser.get_http_version(), parser.get_method()
        self.parser = httptools.HttpRequestParser(self)
        return without_upgrade(method, self.url, version, self.headers)
