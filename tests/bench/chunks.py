"""What a stream event costs when it is translated: decoded from one dialect, written in another.

In this process, one content event at a time, as they come; `python -m tests.bench.chunks`.
"""

import json
import statistics
import struct
import sys
import time
import zlib
from collections.abc import Callable, Mapping

import msgspec
from rich.console import Console
from rich.table import Table

from shared.config.model import ProviderConfig
from shared.gateway.parse import parse_request
from shared.providers.aws import Signer
from shared.providers.registry import adapter_for
from shared.providers.target import Target

EVENTS = 2_000
REPEATS = 5
MOST_US = 60.0
"""The promise: what one event may cost in CPU."""

QUESTION: Mapping[str, object] = {
    "model": "m",
    "stream": True,
    "max_tokens": 4096,
    "messages": [{"role": "user", "content": "hello"}],
}
CALLERS: Mapping[str, Mapping[str, object]] = {
    "/v1/chat/completions": QUESTION,
    "/v1/messages": QUESTION,
    "/v1/responses": {"model": "m", "stream": True, "store": False, "input": "hello"},
}


class Wire(msgspec.Struct, frozen=True, kw_only=True):
    """A provider's stream: how it begins, one event of text, and the config of its provider."""

    kind: str
    opening: bytes
    event: bytes
    config: Mapping[str, object] = {}
    secret: str = "sk-bench"


def _sse(body: object, name: str = "") -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(body)}\n\n".encode()


def _chunk(delta: Mapping[str, object]) -> bytes:
    return _sse({
        "id": "chatcmpl-bench", "object": "chat.completion.chunk", "created": 1_700_000_000,
        "model": "bench-1", "system_fingerprint": "fp_1",
        "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}],
    })  # fmt: skip


def _frame(name: str, body: object) -> bytes:
    named = {":event-type": name, ":content-type": "application/json", ":message-type": "event"}
    headers = b"".join(
        bytes([len(key)]) + key.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
        for key, value in named.items()
    )
    payload = json.dumps(body).encode()
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    head = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + payload
    return head + struct.pack(">I", zlib.crc32(head))


WORD = "word and "
WIRES = (
    Wire(
        kind="openai",
        opening=_chunk({"role": "assistant", "content": ""}),
        event=_chunk({"content": WORD}),
    ),
    Wire(
        kind="anthropic",
        opening=_sse(
            {
                "type": "message_start",
                "message": {
                    "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-1",
                    "content": [], "stop_reason": None, "stop_sequence": None,
                    "usage": {"input_tokens": 9, "output_tokens": 1},
                },
            },
            "message_start",
        )
        + _sse(
            {
                "type": "content_block_start",
                "index": 0,
                "content_block": {"type": "text", "text": ""},
            },
            "content_block_start",
        ),
        event=_sse(
            {
                "type": "content_block_delta",
                "index": 0,
                "delta": {"type": "text_delta", "text": WORD},
            },
            "content_block_delta",
        ),
    ),
    Wire(
        kind="gemini",
        opening=b"",
        event=_sse({
            "candidates": [{"content": {"parts": [{"text": WORD}], "role": "model"}, "index": 0}],
            "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 3},
            "modelVersion": "gemini-1", "responseId": "r1",
        }),
    ),
    Wire(
        kind="bedrock",
        opening=_frame("messageStart", {"role": "assistant"}),
        event=_frame(
            "contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": WORD}, "p": "abcdef"}
        ),
        config={"region": "us-east-1"},
        secret=Signer(access_key="AKIA", secret_key="bench", at="20260101T000000Z").as_secret(),
    ),
    Wire(
        kind="ollama",
        opening=b"",
        event=json.dumps({
            "model": "llama3", "created_at": "2026-01-01T00:00:00Z", "done": False,
            "message": {"role": "assistant", "content": WORD},
        }).encode() + b"\n",
    ),
)  # fmt: skip
RELAYED = {
    ("openai", "/v1/chat/completions"),
    ("openai", "/v1/responses"),
    ("anthropic", "/v1/messages"),
    ("ollama", "/v1/chat/completions"),
}
"""Where a provider has a surface of the caller's own dialect, and nothing is translated."""


def feeder(wire: Wire, path: str) -> Callable[[bytes], bytes]:
    """Return what takes the bytes of one stream and returns the caller's."""
    provider = msgspec.convert({"kind": wire.kind, **wire.config}, ProviderConfig)
    request = parse_request(path, json.dumps(CALLERS[path]).encode())
    target = Target(provider="bench", model="bench-1")
    scanner = adapter_for(wire.kind).exchange(provider, wire.secret, request, target).scanner()
    return lambda raw: scanner.feed(raw).out


def cost_us(wire: Wire, path: str) -> float:
    """Return the CPU time of one event, the median of some runs."""
    runs = []
    for _ in range(REPEATS):
        feed = feeder(wire, path)
        feed(wire.opening)
        assert WORD.encode() in feed(wire.event), f"{wire.kind} said nothing on {path}"
        started_ns = time.process_time_ns()
        for _ in range(EVENTS):
            feed(wire.event)
        runs.append((time.process_time_ns() - started_ns) / EVENTS / 1000)
    return statistics.median(runs)


def main() -> int:
    """Print what each pair of dialects costs; return 1 when one breaks the promise."""
    table = Table(title="CPU of one translated stream event, µs (decode + encode)")
    table.add_column("provider")
    for path in CALLERS:
        table.add_column(path, justify="right")
    worst_us = 0.0
    for wire in WIRES:
        costs = {path: cost_us(wire, path) for path in CALLERS if (wire.kind, path) not in RELAYED}
        worst_us = max(worst_us, *costs.values())
        table.add_row(
            wire.kind,
            *(f"{costs[path]:.1f}" if path in costs else "relayed" for path in CALLERS),
        )
    console = Console(width=100)
    console.print(table)
    console.print(f"the dearest: {worst_us:.1f} µs CPU ({MOST_US:.0f} µs allowed)")
    return 0 if worst_us < MOST_US else 1


if __name__ == "__main__":
    sys.exit(main())
