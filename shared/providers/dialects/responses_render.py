"""Canonical answers as OpenAI's Responses: items, and the object that holds them.

Only the first choice is shown: the dialect knows no other. Ids are made of the answer's own, so
that an item has the same one wherever it appears.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from shared.chat.message import Reasoning, ToolCall
from shared.chat.request import ChatRequest
from shared.chat.response import ChatChoice, ChatResponse, FinishReason
from shared.chat.usage import Usage
from shared.providers.dialects.openai_render import signed
from shared.providers.dialects.responses_proof import packed
from shared.providers.dialects.responses_usage import render_usage

Item = dict[str, Any]

INCOMPLETE: Mapping[FinishReason, str] = {
    FinishReason.LENGTH: "max_output_tokens",
    FinishReason.CONTENT_FILTER: "content_filter",
}
"""Why an answer ended before it was complete, by what the model said."""


class Names:
    """The ids of one answer and its items; `at_s` is when it was asked for, in epoch seconds."""

    def __init__(self, answer_id: str, at_s: int = 0) -> None:
        self.answer = answer_id
        self.at_s = at_s
        self._stem = answer_id.removeprefix("resp_")

    def item(self, prefix: str, index: int) -> str:
        """Return the id of the item at that place."""
        return f"{prefix}_{self._stem}{index:02x}"


def render_response(answer: ChatResponse, chat: ChatRequest, names: Names) -> bytes:
    """Return a whole response."""
    choice = answer.choices[0] if answer.choices else ChatChoice()
    output: list[Item] = []
    for thought in choice.reasoning:
        output.append(reasoning_item(names.item("rs", len(output)), thought))
    if parts := _parts(choice):
        output.append(message_item(names.item("msg", len(output)), parts))
    for call in choice.tool_calls:
        output.append(call_item(names, len(output), call))
    body = envelope(chat, names, answer.model, answer.created_s)
    complete(body, output, choice.finish, answer.usage)
    if answer.extra:
        body["sluiceway"] = {"extra": answer.extra}
    return msgspec.json.encode(body)


def envelope(chat: ChatRequest, names: Names, model: str, created_s: int) -> Item:
    """Return a response that is still to come."""
    return {
        "id": names.answer,
        "object": "response",
        "created_at": created_s or names.at_s,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "model": model or chat.model,
        "output": [],
        "usage": None,
        **chat.echo,
    }


def complete(
    body: Item, output: Sequence[Item], finish: FinishReason | None, usage: Usage | None
) -> None:
    """Write into a response what it has become; an item that was cut is the last one."""
    body["status"], body["output"] = "completed", output
    if finish is not None and finish in INCOMPLETE:
        body["status"] = "incomplete"
        body["incomplete_details"] = {"reason": INCOMPLETE[finish]}
        if output and "status" in output[-1]:
            output[-1]["status"] = "incomplete"
    if usage is not None:
        body["usage"] = render_usage(usage)
        if usage.service_tier is not None:
            body["service_tier"] = usage.service_tier


def _parts(choice: ChatChoice) -> list[Item]:
    parts: list[Item] = []
    silent = not (choice.refusal or choice.tool_calls or choice.reasoning)
    if choice.text or choice.annotations or (choice.text is not None and silent):
        parts.append(text_part(choice.text or "", choice.annotations, choice.logprobs))
    if choice.refusal:
        parts.append(refusal_part(choice.refusal))
    return parts


def text_part(
    text: str,
    annotations: Sequence[Mapping[str, Any]] = (),
    logprobs: Sequence[Mapping[str, Any]] = (),
) -> Item:
    """Return words; `annotations` are those of chat."""
    flat = [annotation(one) for one in annotations]
    return {"type": "output_text", "text": text, "annotations": flat, "logprobs": list(logprobs)}


def refusal_part(text: str) -> Item:
    """Return words of refusal."""
    return {"type": "refusal", "refusal": text}


def annotation(one: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an annotation of chat without its inner object: `{type, url_citation: {…}}`."""
    kind = one.get("type")
    inner = one.get(kind) if isinstance(kind, str) else None
    return {"type": kind, **inner} if isinstance(inner, Mapping) else one


def message_item(item_id: str, content: list[Item], status: str = "completed") -> Item:
    """Return an assistant's message."""
    return {
        "id": item_id,
        "type": "message",
        "role": "assistant",
        "status": status,
        "content": content,
    }


def reasoning_item(item_id: str, thought: Reasoning) -> Item:
    """Return a piece of reasoning, its proof packed where it has one."""
    item: Item = {"id": item_id, "type": "reasoning", "summary": []}
    if thought.text:
        item["summary"] = [{"type": "summary_text", "text": thought.text}]
    if thought.signature is not None:
        item["encrypted_content"] = packed(
            thought.dialect, thought.signature, redacted=thought.redacted
        )
    return item


def call_item(names: Names, index: int, call: ToolCall, status: str = "completed") -> Item:
    """Return a call; one whose provider gave it no id gets one of ours."""
    item: Item = {
        "id": names.item("fc" if call.kind == "function" else "ctc", index),
        "type": "function_call" if call.kind == "function" else "custom_tool_call",
        "call_id": call.id or names.item("call", index),
        "name": call.name,
    }
    if call.kind == "custom":
        item["input"] = call.arguments
    else:
        item["arguments"] = call.arguments
    item["status"] = status
    if call.signature is not None:
        item["extra_content"] = signed(call.signature)
    return item
