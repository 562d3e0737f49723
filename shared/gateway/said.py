"""What a whole answer used, also where its provider does not count what it has said."""

from collections.abc import Mapping
from typing import Any

import msgspec

from shared.chat.usage import Usage
from shared.ledger.estimate import known_usage
from shared.providers.dialects.openai_usage import named_tier
from shared.providers.exchange import Reply
from shared.providers.request import InferenceRequest

_COMPLETIONS = "/v1/completions"
_ANSWERS: Mapping[str, str] = {
    "/v1/chat/completions": "choices",
    _COMPLETIONS: "choices",
    "/v1/messages": "content",
    "/v1/responses": "output",
}
"""Where an answer in words stands, by endpoint."""

_WORDS = frozenset({
    "message", "content", "text", "refusal", "reasoning_content", "reasoning", "thinking",
    "summary", "tool_calls", "function_call", "function", "custom", "name", "arguments",
})  # fmt: skip
"""The fields of an answer that are said, or hold what is."""

_decode = msgspec.json.Decoder(dict[str, Any]).decode


def used_by(request: InferenceRequest, reply: Reply) -> Usage:
    """Return what a whole answer used, with a flagged guess of what it said and did not count.

    A completion that asked for no output has none, though it may give back its prompt.
    """
    told, body = reply.usage, reply.body
    if told is None:
        return known_usage(request, None, len(body), service_tier=_tier_in(body))
    if told.output_tokens > 0 or request.endpoint not in _ANSWERS:
        return known_usage(request, told, len(body))
    if request.endpoint == _COMPLETIONS and request.head.max_tokens == 0:
        return known_usage(request, told, 0)
    said = said_bytes(request.endpoint, body)
    if said and not told.estimated:
        told = msgspec.structs.replace(told, estimated=True)
    return known_usage(request, told, said)


def _tier_in(body: bytes) -> str | None:
    """Return the service tier that an answer without counts names, None where there is none."""
    try:
        return named_tier(_decode(body).get("service_tier"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def said_bytes(endpoint: str, body: bytes) -> int:
    """Return the UTF-8 bytes of text, thoughts and calls in an answer; all that cannot be read."""
    where = _ANSWERS.get(endpoint)
    if where is None:
        return 0
    try:
        answers = _decode(body).get(where)
        return _bytes_in(answers) if isinstance(answers, list) else len(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return len(body)


def _bytes_in(said: object) -> int:
    match said:
        case str():
            return len(said.encode())
        case list():
            return sum(map(_bytes_in, said))
        case dict():
            size_bytes = sum(_bytes_in(part) for name, part in said.items() if name in _WORDS)
            given = said.get("input")  # of a tool; its values are anything
            return size_bytes + (len(msgspec.json.encode(given)) if given else 0)
        case _:
            return 0
