"""A closed-loop load generator: N connections, each sends when its last answer is whole."""

import asyncio
import itertools
import time
from collections.abc import Iterator, Sequence

import msgspec

_BODY = {
    "model": "bench",
    "messages": [{"role": "user", "content": "lorem ipsum dolor sit amet " * 34}],
}


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What one run showed; times in seconds. `gaps_s`: between two reads of a stream."""

    calls: int
    events: int
    errors: int
    elapsed_s: float
    latencies_s: tuple[float, ...]
    gaps_s: tuple[float, ...] = ()

    @property
    def per_second(self) -> float:
        """Calls a second."""
        return self.calls / self.elapsed_s

    def percentile_ms(self, share: float) -> float:
        """Return the latency (streams: time to the first event) below which `share` lie."""
        return percentile_ms(self.latencies_s, share)


def percentile_ms(times_s: Sequence[float], share: float) -> float:
    """Return the time in ms below which `share` of them lie."""
    ordered = sorted(times_s)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000


def request_bytes(path: str, key: str, *, stream: bool, seed: int | None = None) -> bytes:
    """Return one request of about 1 KB."""
    more = {"stream": True} if stream else {} if seed is None else {"seed": seed}
    body = msgspec.json.encode(_BODY | more)
    head = (
        f"POST {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def seeded_requests(path: str, key: str) -> Iterator[bytes]:
    """Yield requests of about 1 KB without end, each with a seed of its own: no two are alike."""
    for seed in itertools.count(1_000_000):
        yield request_bytes(path, key, stream=False, seed=seed)


class Caller(asyncio.Protocol):
    """One connection of the generator."""

    def __init__(self, requests: Iterator[bytes], ends_s: float, *, stream: bool) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.latencies_s: list[float] = []
        self.gaps_s: list[float] = []
        self.calls = self.events = self.errors = 0
        self._requests = requests
        self._ends_s = ends_s
        self._stream = stream
        self._data = b""
        self._sent_s = self._read_s = 0.0
        self._first = True
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.errors += 1
            self.done.set_result(None)

    def _next(self) -> None:
        assert self._transport is not None
        self._sent_s = time.perf_counter()
        if self._sent_s >= self._ends_s:
            self.done.set_result(None)
            self._transport.close()
            return
        self._first = True
        self._transport.write(next(self._requests))

    def data_received(self, data: bytes) -> None:
        if self._stream:
            self._streamed(data)
        else:
            self._whole(data)

    def _whole(self, data: bytes) -> None:
        self._data = self._data + data if self._data else data
        head_end = self._data.find(b"\r\n\r\n")
        if head_end < 0:
            return
        start = self._data.find(b"content-length: ") + 16
        length = int(self._data[start : self._data.find(b"\r\n", start)])
        if len(self._data) < head_end + 4 + length:
            return
        self._ended(ok=self._data.startswith(b"HTTP/1.1 200"))
        self.latencies_s.append(time.perf_counter() - self._sent_s)
        self._data = b""
        self._next()

    def _streamed(self, data: bytes) -> None:
        now_s = time.perf_counter()
        if not self._first:
            self.gaps_s.append(now_s - self._read_s)
        elif b"word0" in data:
            self._first = False
            self.latencies_s.append(now_s - self._sent_s)
        self._read_s = now_s
        self.events += data.count(b"data: ")
        self._data = self._data[-64:] + data
        if self._data.endswith(b"0\r\n\r\n"):
            self._ended(ok=b"[DONE]" in self._data)
            self._data = b""
            self._next()

    def _ended(self, *, ok: bool) -> None:
        self.calls += 1
        self.errors += not ok


async def load(
    port: int,
    requests: bytes | Iterator[bytes],
    *,
    connections: int,
    length_s: float,
    stream: bool,
) -> Figures:
    """Run for `length_s` seconds and return what was seen. One request is sent again and again."""
    if isinstance(requests, bytes):
        requests = itertools.repeat(requests)
    loop = asyncio.get_running_loop()
    started_s = time.perf_counter()
    callers = [
        (
            await loop.create_connection(
                lambda: Caller(requests, started_s + length_s, stream=stream), "127.0.0.1", port
            )
        )[1]
        for _ in range(connections)
    ]
    await asyncio.gather(*(caller.done for caller in callers))
    return Figures(
        calls=sum(caller.calls for caller in callers),
        events=sum(caller.events for caller in callers),
        errors=sum(caller.errors for caller in callers),
        elapsed_s=time.perf_counter() - started_s,
        latencies_s=tuple(latency for caller in callers for latency in caller.latencies_s),
        gaps_s=tuple(gap for caller in callers for gap in caller.gaps_s),
    )
