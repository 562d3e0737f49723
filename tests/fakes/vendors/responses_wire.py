"""OpenAI's Responses as the vendor writes them: the object, and the events that build it up."""

import json
from collections.abc import Iterator, Mapping

USAGE = {
    "input_tokens": 20,
    "input_tokens_details": {"cached_tokens": 4},
    "output_tokens": 10,
    "output_tokens_details": {"reasoning_tokens": 2},
    "total_tokens": 30,
}


def response_object(asked: Mapping, *, text: str, thought: str, calls: list[dict]) -> dict:
    """Return a completed response; `calls` are those of chat."""
    output: list[dict] = []
    if thought:
        summary = [{"type": "summary_text", "text": thought}]
        output.append({"id": "rs_1", "type": "reasoning", "summary": summary})
    output += [
        {
            "id": f"fc_{call['id']}",
            "type": "function_call",
            "status": "completed",
            "call_id": call["id"],
            **call["function"],
        }
        for call in calls
    ]
    if text:
        part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
        message = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed"}
        output.append({**message, "content": [part]})
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1_700_000_000,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "instructions": asked.get("instructions"),
        "metadata": {},
        "model": asked["model"],
        "output": output,
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": asked.get("tools") or [],
        "top_p": 1.0,
        "usage": USAGE,
    }


def response_events(body: Mapping) -> list[bytes]:
    """Return the events of a stream that ends with this response."""
    events = [
        {"type": name, **fields, "sequence_number": number}
        for number, (name, fields) in enumerate(_events(body))
    ]
    return [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events]


def _events(body: Mapping) -> Iterator[tuple[str, dict]]:
    started = {**body, "status": "in_progress", "output": [], "usage": None}
    yield "response.created", {"response": started}
    yield "response.in_progress", {"response": started}
    for at, item in enumerate(body["output"]):
        place = {"output_index": at, "item_id": item["id"]}
        yield "response.output_item.added", {"output_index": at, "item": _emptied(item)}
        match item["type"]:
            case "message":
                yield from _text(item["content"][0], {**place, "content_index": 0})
            case "function_call":
                given = item["arguments"]
                name = "response.function_call_arguments"
                yield f"{name}.delta", {**place, "delta": given}
                yield f"{name}.done", {**place, "arguments": given, "name": item["name"]}
            case "reasoning":
                yield from _summary(item["summary"][0], {**place, "summary_index": 0})
        yield "response.output_item.done", {"output_index": at, "item": item}
    yield "response.completed", {"response": dict(body)}


def _text(part: dict, place: dict) -> Iterator[tuple[str, dict]]:
    yield "response.content_part.added", {**place, "part": {**part, "text": ""}}
    first, space, rest = part["text"].partition(" ")
    for piece in filter(None, (first, space + rest)):
        yield "response.output_text.delta", {**place, "delta": piece, "logprobs": []}
    yield "response.output_text.done", {**place, "text": part["text"], "logprobs": []}
    yield "response.content_part.done", {**place, "part": part}


def _summary(part: dict, place: dict) -> Iterator[tuple[str, dict]]:
    yield "response.reasoning_summary_part.added", {**place, "part": {**part, "text": ""}}
    yield "response.reasoning_summary_text.delta", {**place, "delta": part["text"]}
    yield "response.reasoning_summary_text.done", {**place, "text": part["text"]}
    yield "response.reasoning_summary_part.done", {**place, "part": part}


def _emptied(item: dict) -> dict:
    empty = {"message": {"content": []}, "function_call": {"arguments": ""}}
    emptied = {**item, **empty.get(item["type"], {"summary": []})}
    return {**emptied, "status": "in_progress"} if "status" in item else emptied
