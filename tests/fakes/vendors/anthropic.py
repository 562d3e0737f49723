"""Anthropic's Messages over HTTP: whole, streamed, tools, thoughts, counts, and its errors.

    async with AnthropicVendor() as vendor:
        vendor.says("hello")

It refuses what Anthropic refuses of a conversation's form, with Anthropic's own kind of 400.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence

from tests.fakes.upstream import Answer, Recorded, sse
from tests.fakes.vendors.scenes import SceneVendor

USAGE = {
    "input_tokens": 14,
    "cache_creation_input_tokens": 2,
    "cache_read_input_tokens": 4,
    "cache_creation": {"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 0},
    "output_tokens": 10,
    "service_tier": "standard",
}
SIGNATURE = "EqQBCkYIBxgCKkA8AZ4noDfV5VcOJe=="
COUNTED = 14
"""The answer to any question for the number of tokens."""
_TOOL_ID = re.compile(r"[a-zA-Z0-9_-]+")
_PIECE = 5
GAP_S = 0.02
"""Between the events of a stream that breaks, so that what came before is seen on its own."""

Call = tuple[str, Mapping[str, object]]
Block = dict[str, object]


class AnthropicVendor(SceneVendor):
    """A vendor that serves `/v1/messages` and `/v1/messages/count_tokens`."""

    def says(self, text: str) -> None:
        """Answer with a text, a word to a delta."""
        self._plays([{"type": "text", "text": text}])

    def calls(self, *calls: Call) -> None:
        """Answer with tool calls, their arguments in pieces."""
        self.ticks += 1
        made: list[Block] = [
            {"type": "tool_use", "id": f"toolu_{self.ticks}_{at}", "name": name, "input": given}
            for at, (name, given) in enumerate(calls)
        ]
        self._plays(made, "tool_use")

    def thinks(self, thought: str, text: str) -> None:
        """Answer with a signed thought, then a text."""
        signed = {"type": "thinking", "thinking": thought, "signature": SIGNATURE}
        self._plays([signed, {"type": "text", "text": text}])

    def answers(self, *blocks: Block, stop_reason: str = "end_turn") -> None:
        """Answer with any content blocks."""
        self._plays(blocks, stop_reason)

    def fails(self, status: int, kind: str) -> None:
        """Answer with an error of that type."""
        self.script(_json(_error(kind, f"It is {kind}."), status))

    def breaks(self, kind: str, *, after: str = "") -> None:
        """Answer a stream with an error event, after this much text."""

        def answer(request: Recorded) -> Answer:
            first = _events(request.json, [{"type": "text", "text": after}], "end_turn")
            shown = list(first)[:-3] if after else list(first)[:1]
            error = event("error", error=_error(kind, f"It is {kind}.")["error"])
            return sse([*shown, error], gap_s=GAP_S)

        self.script(answer)

    def _plays(self, blocks: Sequence[Block], stop_reason: str = "end_turn") -> None:
        def answer(request: Recorded) -> Answer:
            asked = request.json
            if request.path.partition("?")[0].endswith("/count_tokens"):
                return _json({"input_tokens": COUNTED})
            refused = _refusal(asked, request.headers)
            if refused is not None:
                return _json(_error("invalid_request_error", refused), 400)
            if asked.get("stream"):
                return sse(_events(asked, blocks, stop_reason))
            message = _message(asked["model"])
            return _json({**message, "content": list(blocks), "stop_reason": stop_reason})

        self.script(answer)


def event(name: str, **fields: object) -> bytes:
    """One event of a stream."""
    body = json.dumps({"type": name, **fields}, separators=(",", ":"), ensure_ascii=False)
    return f"event: {name}\ndata: {body}\n\n".encode()


def _events(asked: Mapping, blocks: Sequence[Block], stop_reason: str) -> Iterator[bytes]:
    head = {**USAGE, "output_tokens": 1}
    yield event("message_start", message={**_message(asked["model"]), "usage": head})
    yield event("ping")
    for index, block in enumerate(blocks):
        opening, deltas = _cut(block)
        yield event("content_block_start", index=index, content_block=opening)
        for delta in deltas:
            yield event("content_block_delta", index=index, delta=delta)
        yield event("content_block_stop", index=index)
    ended = {"stop_reason": stop_reason, "stop_sequence": None}
    told = {"input_tokens": USAGE["input_tokens"], "output_tokens": USAGE["output_tokens"]}
    yield event("message_delta", delta=ended, usage=told)
    yield event("message_stop")


def _cut(block: Block) -> tuple[Block, list[Block]]:
    """Return how a block begins, and the deltas that complete it."""
    match block["type"]:
        case "text":
            deltas = [{"type": "text_delta", "text": word} for word in _words(block["text"])]
            return {**block, "text": ""}, deltas
        case "thinking":
            words = _words(block["thinking"])
            deltas = [{"type": "thinking_delta", "thinking": word} for word in words]
            deltas.append({"type": "signature_delta", "signature": block["signature"]})
            return {**block, "thinking": "", "signature": ""}, deltas
        case "tool_use" if block["input"]:
            whole = json.dumps(block["input"], ensure_ascii=False)
            cuts = ["", *(whole[at : at + _PIECE] for at in range(0, len(whole), _PIECE))]
            deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in cuts]
            return {**block, "input": {}}, deltas
        case _:
            return block, []


def _message(model: str) -> dict[str, object]:
    return {
        "id": "msg_01Fake",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": USAGE,
    }


def _refusal(asked: Mapping, headers: Mapping[str, str]) -> str | None:
    """Return why Anthropic would refuse this question, None if it would not."""
    if "anthropic-version" not in headers:
        return "anthropic-version: header is required"
    for name in ("model", "max_tokens", "messages"):
        if not asked.get(name):
            return f"{name}: Field required"
    thinking = asked.get("thinking") or {}
    if thinking.get("budget_tokens", 0) >= asked["max_tokens"]:
        return "`max_tokens` must be greater than `thinking.budget_tokens`"
    if asked.get("tool_choice") and not asked.get("tools"):
        return "tool_choice: may only be specified while providing tools"
    if "user" != asked["messages"][0]["role"]:
        return "messages: first message must use the user role"
    return _wrong_turns([(turn["role"], _blocks(turn)) for turn in asked["messages"]])


def _wrong_turns(turns: Sequence[tuple[str, list[Block]]]) -> str | None:
    calls: set[object] = set()
    for role, blocks in turns:
        answered = [block["tool_use_id"] for block in blocks if "tool_result" == block["type"]]
        if "user" == role and set(answered) != calls:
            return "`tool_use` ids were found without `tool_result` blocks immediately after"
        first = [block["type"] for block in blocks[: len(answered)]]
        if set(first) - {"tool_result"}:
            return "`tool_result` blocks must come first"
        calls = {block["id"] for block in blocks if "tool_use" == block["type"]}
        if any(not _TOOL_ID.fullmatch(str(id_)) for id_ in calls):
            return "messages.content.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'"
        texts = [str(block["text"]) for block in blocks if "text" == block["type"]]
        if not blocks or any(not text.strip() for text in texts):
            return "messages: text content blocks must contain non-whitespace text"
    return "a call is not answered" if calls else None


def _blocks(turn: Mapping) -> list[Block]:
    content = turn["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _error(kind: str, message: str) -> dict[str, object]:
    error = {"type": kind, "message": message}
    return {"type": "error", "error": error, "request_id": "req_011Fake"}


def _words(text: object) -> list[str]:
    return re.findall(r"\S+\s*", str(text))


def _json(body: object, status: int = 200) -> Answer:
    headers = {"content-type": "application/json", "request-id": "req_011Fake"}
    return Answer(status=status, headers=headers, pieces=(json.dumps(body).encode(),))
