"""Anthropic's messages: answers read as its SDK reads them."""

import json
from collections.abc import Mapping

from tests.readings.said import FILTER, LENGTH, STOP, TOOLS, Said, joined, sse, total

FINISHES = {
    "end_turn": STOP,
    "stop_sequence": STOP,
    "pause_turn": STOP,
    "tool_use": TOOLS,
    "max_tokens": LENGTH,
    "model_context_window_exceeded": LENGTH,
    "refusal": FILTER,
}


def whole(body: Mapping) -> Said:
    """Read a message."""
    if body.get("type") == "error":
        return Said(error=body["error"]["message"])
    blocks = body["content"]
    calls = [block for block in blocks if block["type"] == "tool_use"]
    return Said(
        text=joined(block.get("text") for block in blocks),
        thoughts=joined(block.get("thinking") for block in blocks),
        calls=tuple((block["name"], block["input"]) for block in calls),
        call_ids=tuple(block["id"] for block in calls),
        proofs=tuple(
            block[name] for block in blocks for name in ("signature", "data") if block.get(name)
        ),
        finish=FINISHES.get(body["stop_reason"], body["stop_reason"]),
        **counts(body.get("usage") or {}),
    )


def streamed(raw: bytes) -> Said:
    """Read a stream of events, checking their order as the SDK's helper relies on it."""
    reading = _Reading()
    for name, event in sse(raw):
        assert isinstance(event, dict)
        assert name == event["type"]
        reading.take(event)
    return reading.said()


class _Reading:
    def __init__(self) -> None:
        self.blocks: list[dict] = []
        self.is_open = False
        self.stop_reason: str | None = None
        self.usage: dict = {}
        self.error: str | None = None

    def take(self, event: Mapping) -> None:
        match event:
            case {"type": "message_start", "message": {"usage": usage}}:
                self.usage |= usage
            case {"type": "content_block_start", "index": index, "content_block": block}:
                assert (False, len(self.blocks)) == (self.is_open, index)
                self.is_open = True
                self.blocks.append({**block, "json": ""})
            case {"type": "content_block_delta", "index": index, "delta": delta}:
                assert (True, len(self.blocks) - 1) == (self.is_open, index)
                _add(delta, self.blocks[-1])
            case {"type": "content_block_stop"}:
                assert self.is_open
                self.is_open = False
            case {"type": "message_delta", "delta": delta, "usage": usage}:
                self.stop_reason = delta["stop_reason"]
                self.usage |= {name: count for name, count in usage.items() if count is not None}
            case {"type": "error", "error": error}:
                self.error = error["message"]

    def said(self) -> Said:
        if self.error is not None:
            text = joined(block.get("text") for block in self.blocks)
            return Said(error=self.error, text=text)
        for block in self.blocks:
            if block["type"] == "tool_use":
                block["input"] = json.loads(block["json"] or "{}")
        body = {"content": self.blocks, "stop_reason": self.stop_reason, "usage": self.usage}
        return whole(body)


def _add(delta: Mapping, block: dict) -> None:
    for name in ("text", "thinking", "signature"):
        if name in delta:
            block[name] = block.get(name, "") + delta[name]
    block["json"] += delta.get("partial_json", "")


def counts(usage: Mapping) -> dict:
    """Return the fields of Said that stand in a usage object: its input leaves the cache out."""
    cached = usage.get("cache_read_input_tokens")
    return {
        "input_tokens": total(
            usage.get("input_tokens"), usage.get("cache_creation_input_tokens"), cached
        ),
        "output_tokens": usage.get("output_tokens"),
        "cached_tokens": cached,
    }
