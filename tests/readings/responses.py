"""OpenAI's Responses: answers read as its SDK reads them."""

from collections.abc import Mapping

from tests.readings.said import FILTER, LENGTH, STOP, TOOLS, Said, arguments_of, joined, sse

ENDS = ("response.completed", "response.incomplete", "response.failed")


def whole(body: Mapping) -> Said:
    """Read a response."""
    if body.get("error"):
        return Said(error=body["error"]["message"])
    items = body["output"]
    calls = [item for item in items if item["type"] == "function_call"]
    thoughts = [item for item in items if item["type"] == "reasoning"]
    shown = [part for item in thoughts for part in item.get("content") or item["summary"]]
    said = [part for item in items if item["type"] == "message" for part in item["content"]]
    return Said(
        text=joined(part.get("text") for part in said),
        thoughts=joined(part["text"] for part in shown),
        calls=tuple((call["name"], arguments_of(call["arguments"])) for call in calls),
        call_ids=tuple(call["call_id"] for call in calls),
        proofs=tuple(
            item["encrypted_content"] for item in thoughts if item.get("encrypted_content")
        ),
        finish=_finish(body, has_calls=bool(calls)),
        **counts(body.get("usage") or {}),
    )


def streamed(raw: bytes) -> Said:
    """Read a stream: what its last event holds must be what its deltas said."""
    texts: list[str] = []
    last: Mapping | None = None
    numbers = []
    for name, event in sse(raw):
        if not isinstance(event, dict):
            continue
        if name == "error" or event.get("type") == "error":
            return Said(error=(event.get("error") or event)["message"], text=joined(texts))
        assert name == event["type"]
        numbers += [event[word] for word in ("sequence_number",) if word in event]
        if name == "response.output_text.delta":
            texts.append(event["delta"])
        if name in ENDS:
            last = event["response"]
    # Recordings of the first weeks have none.
    assert list(range(min(numbers, default=0), max(numbers, default=-1) + 1)) == numbers
    assert last is not None, "the stream has no end"
    said = whole(last)
    assert joined(texts) == said.text or said.error
    return said


def counts(usage: Mapping) -> dict:
    """Return the fields of Said that stand in a usage object."""
    return {
        "input_tokens": usage.get("input_tokens"),
        "output_tokens": usage.get("output_tokens"),
        "cached_tokens": (usage.get("input_tokens_details") or {}).get("cached_tokens"),
    }


def _finish(body: Mapping, *, has_calls: bool) -> str:
    if body["status"] == "incomplete":
        reason = body["incomplete_details"]["reason"]
        return FILTER if reason == "content_filter" else LENGTH
    return TOOLS if has_calls else STOP
