"""A provider that tells one story of sixty tokens, and the many ways in which it can fail at it.

What it is asked to say after its prefill is a matter of the story, so a test can tell by the text
alone whether an answer is whole, said twice, or has a gap.
"""

import json
from collections.abc import Mapping
from typing import Literal

import msgspec

from tests.fakes.upstream import DONE, SSE, Answer, Recorded, chunk, completion, status

TOKENS = tuple(f"t{number:02d} " for number in range(60))
TEXT = "".join(TOKENS)
PROMPT_TOKENS = 1000
"""As the provider counts; a prefill adds its own tokens."""

ROLE = chunk({"role": "assistant", "content": ""})


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """What a provider says to one request; call it with the request.

    Stream or whole answer, as asked. `cut_after`, `stall_after` and `odd_at` are numbers of tokens.
    A whole answer breaks in its middle wherever a stream would. `prefill` says what becomes of a
    last message of the assistant's: it is gone on from, it is an error, or it is passed over.
    `piece_s` is the time between two tokens, `first_s` before the first.
    """

    tokens: tuple[str, ...] = TOKENS
    prefill: Literal["takes", "refuses", "ignores"] = "ignores"
    piece_s: float = 0.0
    first_s: float = 0.0
    cut_after: int | None = None
    cut: Literal["reset", "eof", "orderly"] = "reset"
    stall_after: int | None = None
    odd_at: int | None = None
    odd: bytes = b"data: {nonsense\n\n"
    finish: str | None = "stop"
    usage: bool = True
    done: bool = True
    headers: Mapping[str, str] = msgspec.field(default_factory=lambda: SSE)
    framing: Literal["chunked", "close"] = "chunked"

    def __call__(self, request: Recorded) -> Answer:
        body = request.json
        last = body["messages"][-1]
        begun = last["content"] if last["role"] == "assistant" else ""
        if begun and self.prefill == "refuses":
            return status(400, REFUSED)
        told = begun if self.prefill == "takes" else ""
        if not body.get("stream"):
            return self._whole("".join(self.tokens)[len(told) :])
        left = self._left(told)
        counted = usage_of(left, begun)
        asked = (body.get("stream_options") or {}).get("include_usage")
        return self._stream(left, counted if asked and self.usage else None)

    def _left(self, told: str) -> tuple[str, ...]:
        assert "".join(self.tokens).startswith(told), f"not a beginning of the story: {told!r}"
        length = 0
        for number, token in enumerate(self.tokens):
            if length >= len(told):
                rest = self.tokens[number:]
                return rest if length == len(told) else (told[length:], *rest)
            length += len(token)
        return ()

    def _stream(self, tokens: tuple[str, ...], usage: Mapping[str, int] | None) -> Answer:
        pieces, end = [ROLE], "orderly"
        breaks_at = self.cut_after if self.cut_after is not None else self.stall_after
        for number, token in enumerate(tokens):
            if number == breaks_at:
                end = self.cut if self.stall_after is None else "stall"
                break
            if number == self.odd_at:
                pieces.append(self.odd)
            pieces.append(chunk({"content": token}))
        else:
            pieces += [] if self.finish is None else [chunk({}, self.finish)]
            pieces += [] if usage is None else [chunk(usage=usage)]
            pieces += [DONE] if self.done else []
        return Answer(
            headers=self.headers,
            pieces=tuple(pieces),
            framing=self.framing,
            gap_s=self.piece_s,
            pauses={1: self.first_s},
            end=end,
        )

    def _whole(self, text: str) -> Answer:
        body = json.dumps(completion(text, usage=usage_of(self.tokens, ""))).encode()
        breaks = {self.cut_after, self.stall_after, self.odd_at} != {None}
        if not breaks:
            return Answer(pieces=(body,), wait_s=self.first_s)
        end = "stall" if self.stall_after is not None else "eof"
        if self.odd_at is not None:
            return Answer(pieces=(body[:-9] + b"{nonsense",))
        return Answer(pieces=(body[:100],), end=end, framing="chunked")


REFUSED = {
    "message": "This model does not support assistant message prefill.",
    "type": "invalid_request_error",
    "param": "messages",
    "code": None,
}


def usage_of(said: tuple[str, ...], begun: str) -> dict[str, int]:
    """What the provider counts: one token each."""
    prompt = PROMPT_TOKENS + begun.count(" ")
    return {
        "prompt_tokens": prompt,
        "completion_tokens": len(said),
        "total_tokens": prompt + len(said),
    }


def tool_call_pieces(count: int = 5) -> tuple[bytes, ...]:
    """The beginning of a stream that calls a tool, its arguments under way."""
    call = {"index": 0, "id": "call_1", "type": "function"}
    opening = {**call, "function": {"name": "look", "arguments": ""}}
    rest = {"index": 0, "function": {"arguments": '{"a": 1, '}}
    return (ROLE, chunk({"tool_calls": [opening]}), *[chunk({"tool_calls": [rest]})] * count)
