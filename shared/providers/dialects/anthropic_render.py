"""Canonical answers as Anthropic's Messages, by the demands of its SDK's stream helper.

Each event has its name and its data; `message_start` comes first and once; block indices count up
from 0 without gaps; one block is closed before the next opens; usage stands in `message_start` and
in `message_delta`, which is held back to the end because others tell their usage last.
"""

from collections.abc import Iterable

import msgspec

from shared.chat.message import Reasoning, ToolCall
from shared.chat.response import (
    ChatChoice,
    ChatDelta,
    ChatResponse,
    FinishReason,
    ReasoningDelta,
)
from shared.chat.usage import Usage
from shared.ids import IdMaker
from shared.providers.dialects.foreign_thoughts import packed
from shared.providers.dialects.message_blocks import Blocks, Fields, citation, event
from shared.providers.dialects.openai_render import signed

_STOPS = {
    FinishReason.STOP: "end_turn",
    FinishReason.LENGTH: "max_tokens",
    FinishReason.TOOL_CALLS: "tool_use",
    FinishReason.CONTENT_FILTER: "refusal",
}
_TIERS = {"default": "standard", "standard": "standard", "priority": "priority", "batch": "batch"}


def render_response(response: ChatResponse, ids: IdMaker) -> bytes:
    """Return a whole message; only the first choice is shown, the dialect knows no other."""
    choice = response.choices[0] if response.choices else ChatChoice()
    body = _message(response.id, response.model, response.usage, ids)
    body["content"] = [
        *(_thought(piece) for piece in choice.reasoning if _is_shown(piece)),
        *_text(choice),
        *(_tool_use(call, ids) for call in choice.tool_calls),
    ]
    body |= _stop(
        choice.finish, choice.stop_sequence, choice.refusal, called=bool(choice.tool_calls)
    )
    if response.extra:
        body["sluiceway"] = {"extra": response.extra}
    return msgspec.json.encode(body)


class MessagesRenderer:
    """Turns the deltas of one stream into events; only its first choice is shown."""

    def __init__(self, ids: IdMaker) -> None:
        self._ids = ids
        self._blocks = Blocks(ids)
        self._id = ""
        self._model = ""
        self._started = False
        self._said = False
        self._finish: FinishReason | None = None
        self._stop_sequence: str | None = None
        self._refusal = ""
        self._extra: dict[str, object] = {}

    def render(self, deltas: Iterable[ChatDelta]) -> bytes:
        """Return the events of these deltas."""
        return b"".join([self._events(delta) for delta in deltas if delta.choice == 0])

    def closing(self, usage: Usage | None, _cost_usd: str | None) -> bytes:
        """Return the last events: why it stopped, what was used, and the end mark."""
        stop = _stop(
            self._finish,
            self._stop_sequence,
            self._refusal or None,
            called=self._blocks.called,
        )
        start = b"" if self._started else self._start(None)
        fields: Fields = {"delta": stop, "usage": _usage(usage or Usage())}
        if self._extra:
            fields["sluiceway"] = {"extra": self._extra}
        told = event("message_delta", fields)
        return start + self._blocks.end() + told + event("message_stop", {})

    def _events(self, delta: ChatDelta) -> bytes:
        out = b""
        self._extra.update(delta.extra or {})
        if not self._started:
            self._id = self._id or delta.id or ""
            self._model = self._model or delta.model or ""
            if delta == ChatDelta(usage=delta.usage):
                return b""
            out = self._start(delta.usage)
        if delta.reasoning is not None and _is_shown(delta.reasoning):
            out += self._blocks.think(delta.reasoning)
        if delta.text:
            self._said = True
            out += self._blocks.say(delta.text)
        if delta.annotations:
            out += self._blocks.cite(delta.annotations)
        if delta.refusal:
            self._refusal += delta.refusal
            out += b"" if self._said else self._blocks.say(delta.refusal)
        if delta.tool is not None:
            out += self._blocks.call(delta.tool)
        if delta.finish is not None:
            self._finish = self._finish or delta.finish
            out += self._blocks.end()
        self._stop_sequence = self._stop_sequence or delta.stop_sequence
        return out

    def _start(self, usage: Usage | None) -> bytes:
        self._started = True
        body = _message(self._id, self._model, usage, self._ids)
        return event("message_start", {"message": body})


def _message(own_id: str, model: str, usage: Usage | None, ids: IdMaker) -> Fields:
    return {
        "id": _message_id(own_id) or ids("msg"),
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "stop_details": None,
        "usage": _whole_usage(usage),
    }


def _message_id(own_id: str) -> str:
    """Return the provider's id in Anthropic's form; empty when it gave none."""
    if not own_id or own_id.startswith("msg_"):
        return own_id
    return "msg_" + own_id.removeprefix("chatcmpl-")


def _is_shown(piece: Reasoning | ReasoningDelta) -> bool:
    """Return whether a thought gets a block.

    Gemini's optional proof of a text gets none: it comes last, where clients look for the text.
    """
    return not (piece.redacted and piece.dialect == "gemini")


def _thought(piece: Reasoning) -> Fields:
    proof = packed(piece.dialect, piece.signature, piece.id)
    if piece.redacted:
        return {"type": "redacted_thinking", "data": proof}
    return {"type": "thinking", "thinking": piece.text, "signature": proof}


def _text(choice: ChatChoice) -> list[Fields]:
    text = choice.text or choice.refusal or ""
    citations = [one for one in map(citation, choice.annotations) if one is not None]
    if not text and not citations:
        return []
    block: Fields = {"type": "text", "text": text}
    return [block | {"citations": citations} if citations else block]


def _tool_use(call: ToolCall, ids: IdMaker) -> Fields:
    block: Fields = {
        "type": "tool_use",
        "id": call.id or ids("toolu"),
        "name": call.name,
        "input": _input(call),
    }
    if call.signature is not None:
        block["extra_content"] = signed(call.signature)
    return block


def _input(call: ToolCall) -> object:
    """Return the arguments as an object; what is none is shown as Anthropic's guide advises."""
    if call.kind == "custom":
        return {"input": call.arguments}
    if not call.arguments:
        return {}
    try:
        arguments = msgspec.json.decode(call.arguments)
    except (msgspec.DecodeError, RecursionError):
        arguments = None
    return arguments if isinstance(arguments, dict) else {"INVALID_JSON": call.arguments}


def _stop(
    finish: FinishReason | None, sequence: str | None, refusal: str | None, *, called: bool
) -> Fields:
    reason = _STOPS[finish or FinishReason.STOP]
    if reason == "end_turn" and refusal is not None:
        reason = "refusal"
    elif reason == "end_turn" and called:
        reason = "tool_use"  # clients run tools by the reason; OpenAI says stop to a forced call
    elif reason == "end_turn" and sequence is not None:
        reason = "stop_sequence"
    details = {"type": "refusal", "category": None, "explanation": refusal}
    return {
        "stop_reason": reason,
        "stop_sequence": sequence,
        "stop_details": details if reason == "refusal" else None,
    }


def _usage(usage: Usage) -> Fields:
    """Return the counts; Anthropic's input is what is neither read from nor written to the cache.

    Those of a `message_delta`: they go before the ones of `message_start`.
    """
    return {
        "input_tokens": max(
            0, usage.input_tokens - usage.cache_read_tokens - usage.cache_write_tokens
        ),
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cache_read_tokens,
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"thinking_tokens": usage.reasoning_tokens},
    }


def _whole_usage(usage: Usage | None) -> Fields:
    """Return the counts with their kinds, which stay unknown where the provider tells them last."""
    if usage is None:
        return {**_usage(Usage()), "cache_creation": None, "service_tier": None}
    return {
        **_usage(usage),
        "cache_creation": {
            "ephemeral_5m_input_tokens": max(
                0, usage.cache_write_tokens - usage.cache_write_1h_tokens
            ),
            "ephemeral_1h_input_tokens": usage.cache_write_1h_tokens,
        },
        "service_tier": _TIERS.get(usage.service_tier or ""),
    }
