"""A provider that does next to nothing: fixed answers over a hand-written HTTP/1.1 protocol.

Run as `python -m tests.bench.upstream`; prints its port. Streams have 50 events 2 ms apart.
"""

import asyncio
import json
import sys

import uvloop

EVENTS = 50
GAP_S = 0.002

_ANSWER = json.dumps(
    {
        "id": "chatcmpl-bench",
        "object": "chat.completion",
        "created": 1700000000,
        "model": "bench-1",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "word " * 110},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 200, "completion_tokens": 110, "total_tokens": 310},
    }
).encode()

WHOLE = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    % len(_ANSWER)
    + _ANSWER
)
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def _event(delta: dict[str, object], finish: str | None = None, **more: object) -> bytes:
    choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
    chunk = {
        "id": "chatcmpl-bench",
        "object": "chat.completion.chunk",
        "created": 1700000000,
        "model": "bench-1",
        "choices": choices,
    }
    return _chunk(b"data: " + json.dumps(chunk | more).encode() + b"\n\n")


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


_USAGE = {"prompt_tokens": 200, "completion_tokens": EVENTS, "total_tokens": 200 + EVENTS}
PIECES = [
    _event({"role": "assistant", "content": ""}),
    *(_event({"content": f" word{number}"}) for number in range(EVENTS)),
    _event({}, "stop")
    + _event({}, choices=[], usage=_USAGE)
    + _chunk(b"data: [DONE]\n\n")
    + b"0\r\n\r\n",
]


class Provider(asyncio.Protocol):
    """One connection; requests arrive one after the other."""

    def __init__(self) -> None:
        self._data = b""
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self._data = self._data + data if self._data else data
        while True:
            head_end = self._data.find(b"\r\n\r\n")
            if head_end < 0:
                return
            head = self._data[:head_end].lower()
            start = head.find(b"content-length:") + 15
            stop = head.find(b"\r\n", start)
            length = int(head[start : stop if stop > 0 else None])
            end = head_end + 4 + length
            if len(self._data) < end:
                return
            body, self._data = self._data[head_end + 4 : end], self._data[end:]
            assert self._transport is not None
            if b'"stream":true' in body:
                self._transport.write(HEAD)
                self._send(0)
            else:
                self._transport.write(WHOLE)
            if not self._data:
                return

    def _send(self, number: int) -> None:
        assert self._transport is not None
        if self._transport.is_closing():
            return
        self._transport.write(PIECES[number])
        if number + 1 < len(PIECES):
            asyncio.get_running_loop().call_later(GAP_S, self._send, number + 1)


async def main() -> None:
    """Serve until killed."""
    server = await asyncio.get_running_loop().create_server(Provider, "127.0.0.1", 0, backlog=1024)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
