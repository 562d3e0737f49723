"""A stream's events folded into the whole answer that a job keeps. Pure.

What is folded is what was told, field by field as the dialect's own SDK does it, so that nothing
of a relayed answer is lost that its caller could have seen.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec

from shared.chat.usage import Usage
from shared.providers.dialects.openai_render import render_usage
from shared.providers.dialects.sse import SseEvent

Fields = dict[str, Any]

_GROWING = frozenset({
    "content", "refusal", "arguments", "input", "text", "reasoning", "reasoning_content",
    "summary", "transcript", "data", "signature",
})  # fmt: skip
"""Texts that come in pieces; others come whole, by some vendors with every piece."""

_RESPONSE_ENDS = frozenset({"response.completed", "response.incomplete"})

_decode = msgspec.json.Decoder().decode


class Fold(Protocol):
    """Takes the events of one stream."""

    def add(self, event: SseEvent) -> None:
        """Take the next event."""

    def body(self, usage: Usage | None) -> bytes | None:
        """Return the whole answer, None where there was none.

        `usage` is what the books know, for a stream that was not asked to tell it.
        """


class ChunkFold:
    """Chunks with choices: OpenAI's chat, and its completions."""

    def __init__(self, kind: str, inner: str | None) -> None:
        self._kind = kind
        self._inner = inner
        self._head: Fields = {}
        self._choices: dict[int, Fields] = {}

    def add(self, event: SseEvent) -> None:
        """Take the next chunk; the end mark says nothing."""
        if event.data == b"[DONE]":
            return
        chunk = _decode(event.data)
        for choice in chunk.pop("choices", None) or ():
            if self._inner is not None:
                choice[self._inner] = choice.pop("delta", None) or {}
            _merge(self._choices.setdefault(choice.get("index", 0), {}), choice)
        self._head |= {name: value for name, value in chunk.items() if value is not None}

    def body(self, usage: Usage | None) -> bytes | None:
        """Return the chunks as one."""
        if not self._choices:
            return None
        choices = [self._choice(self._choices[index]) for index in sorted(self._choices)]
        body = {**self._head, "object": self._kind, "choices": choices}
        if usage is not None:
            body.setdefault("usage", render_usage(usage))
        return msgspec.json.encode(body)

    def _choice(self, choice: Fields) -> Fields:
        if self._inner is None:
            return choice
        said = {"role": "assistant", "content": None, **choice[self._inner]}
        if "tool_calls" in said:
            said["tool_calls"] = [_without_index(call) for call in said["tool_calls"]]
            said["content"] = said["content"] or None
        return {"logprobs": None, **choice, self._inner: said}


class MessageFold:
    """Blocks of a message: Anthropic's."""

    def __init__(self) -> None:
        self._message: Fields | None = None
        self._blocks: dict[int, Fields] = {}
        self._inputs: dict[int, str] = {}

    def add(self, event: SseEvent) -> None:
        """Take the next event; pings say nothing."""
        told = _decode(event.data)
        match told.get("type"):
            case "message_start":
                self._message = told["message"]
            case "content_block_start":
                self._blocks[told["index"]] = told["content_block"]
            case "content_block_delta":
                self._grow(told["index"], told["delta"])
            case "message_delta" if self._message is not None:
                self._message |= told["delta"]
                counts = told.get("usage") or {}
                known = {name: count for name, count in counts.items() if count is not None}
                self._message["usage"] = {**(self._message.get("usage") or {}), **known}
            case _:
                pass

    def body(self, usage: Usage | None) -> bytes | None:  # noqa: ARG002 (protocol)
        """Return the message; its own events have told the usage."""
        if self._message is None:
            return None
        for index, text in self._inputs.items():
            self._blocks[index]["input"] = _decode(text) if text else {}
        blocks = [self._blocks[index] for index in sorted(self._blocks)]
        return msgspec.json.encode({**self._message, "content": blocks})

    def _grow(self, index: int, delta: Fields) -> None:
        block = self._blocks[index]
        match delta.get("type"):
            case "text_delta":
                block["text"] = block.get("text", "") + delta["text"]
            case "thinking_delta":
                block["thinking"] = block.get("thinking", "") + delta["thinking"]
            case "signature_delta":
                block["signature"] = block.get("signature", "") + delta["signature"]
            case "input_json_delta":
                self._inputs[index] = self._inputs.get(index, "") + delta["partial_json"]
            case "citations_delta":
                block["citations"] = [*(block.get("citations") or ()), delta["citation"]]
            case _:
                pass


class ResponseFold:
    """OpenAI's responses: the last event holds the whole."""

    def __init__(self) -> None:
        self._body: bytes | None = None

    def add(self, event: SseEvent) -> None:
        """Take the next event; only the last one counts."""
        if event.name.decode() in _RESPONSE_ENDS:
            self._body = bytes(_decode_ending(event.data).response)

    def body(self, usage: Usage | None) -> bytes | None:  # noqa: ARG002 (protocol)
        """Return the response, None when it never ended."""
        return self._body


class _Ending(msgspec.Struct):
    response: msgspec.Raw


_decode_ending = msgspec.json.Decoder(_Ending).decode

FOLDS: Mapping[str, Callable[[], Fold]] = {
    "/v1/chat/completions": lambda: ChunkFold("chat.completion", "message"),
    "/v1/completions": lambda: ChunkFold("text_completion", None),
    "/v1/messages": MessageFold,
    "/v1/responses": ResponseFold,
}
"""By endpoint: the calls whose jobs can be followed while they run."""


def _merge(into: Fields, new: Mapping[str, Any]) -> None:
    """Add what a piece tells to what the pieces before it have told."""
    for name, value in new.items():
        before = into.get(name)
        if value is None:
            into.setdefault(name, None)
        elif isinstance(before, str) and isinstance(value, str) and name in _GROWING:
            into[name] = before + value
        elif isinstance(before, dict) and isinstance(value, dict):
            _merge(before, value)
        elif isinstance(value, list):
            into[name] = before if isinstance(before, list) else []
            _merge_items(into[name], value)
        elif before is None or value != "":
            into[name] = value


def _merge_items(into: list[Any], new: list[Any]) -> None:
    """Add items: those with a number to the item of that number, others at the end."""
    for item in new:
        number = item.get("index") if isinstance(item, dict) else None
        same = [one for one in into if number is not None and one.get("index") == number]
        if same:
            _merge(same[0], item)
        else:
            into.append(item)


def _without_index(call: Fields) -> Fields:
    return {name: value for name, value in call.items() if name != "index"}
