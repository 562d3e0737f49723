"""A conversation written out: what was said before, as the input of the next request.

Earlier items lose their ids, which mean something only to the provider that gave them.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

Item = dict[str, Any]

_PREFIXES = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "function_call_output": "fco",
    "custom_tool_call": "ctc",
    "custom_tool_call_output": "ctco",
}
_own_id = re.compile(r"[a-z]+_([0-9a-f]{32})([0-9a-f]{2,4})")
"""The id of an item in an answer of ours (`Names.item`): it tells which, and the place there."""

_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_input = msgspec.json.Decoder(str | list[Any]).decode
_decode_items = msgspec.json.Decoder(list[Item]).decode


class Output(msgspec.Struct, frozen=True):
    """What of a response its successors need."""

    output: list[Item] = []


_decode_output = msgspec.json.Decoder(Output).decode


def input_items(asked: bytes, response_id: str) -> list[Item]:
    """Return a request's `input` as items, each with an id; what is no object is left out."""
    found = _decode_input(asked)
    given: list[Any] = [{"role": "user", "content": found}] if isinstance(found, str) else found
    stem = response_id.removeprefix("resp_")
    return [
        _named(item, stem, number) for number, item in enumerate(given) if isinstance(item, dict)
    ]


def items_of(turns: Iterable[tuple[bytes, bytes]]) -> list[Item]:
    """Return all items of these turns (`input` as kept, response object) in their order."""
    items: list[Item] = []
    for asked, answered in turns:
        items += _decode_items(asked)
        items += _decode_output(answered).output
    return items


def referred(raw: bytes) -> list[str]:
    """Return the ids of the responses of ours whose items a request only refers to."""
    if b'"item_reference"' not in raw:
        return []
    asked = _decode_input(_decode_fields(raw)["input"])
    places = [_place(item) for item in asked] if isinstance(asked, list) else []
    return list(dict.fromkeys(place[0] for place in places if place is not None))


def dereferenced(raw: bytes, answers: Mapping[str, bytes]) -> bytes:
    """Return the request with the items that it refers to; unknown ones stay references."""
    outputs = {name: _decode_output(body).output for name, body in answers.items()}
    fields = _decode_fields(raw)
    items = [_found(item, outputs) for item in _decode_input(fields["input"])]
    fields["input"] = msgspec.Raw(msgspec.json.encode([item for item in items if item is not None]))
    return msgspec.json.encode(fields)


def written_out(raw: bytes, before: Iterable[Item]) -> bytes:
    """Return the request with the earlier items in front of its own; the rest as it is."""
    fields = _decode_fields(raw)
    asked = _decode_input(fields["input"])
    own: list[Any] = [{"role": "user", "content": asked}] if isinstance(asked, str) else asked
    earlier = [sent for item in before if (sent := _sent_again(item)) is not None]
    fields["input"] = msgspec.Raw(msgspec.json.encode([*earlier, *own]))
    return msgspec.json.encode(fields)


def _place(item: object) -> tuple[str, int] | None:
    match item:
        case {"type": "item_reference", "id": str(own_id)} if found := _own_id.fullmatch(own_id):
            return f"resp_{found[1]}", int(found[2], 16)
        case _:
            return None


def _found(item: Any, outputs: Mapping[str, list[Item]]) -> object:  # noqa: ANN401 (any JSON)
    place = _place(item)
    output = [] if place is None else outputs.get(place[0], [])
    if place is None or place[1] >= len(output):
        return item
    return _sent_again(output[place[1]])


def _named(item: Mapping[str, Any], stem: str, number: int) -> Item:
    """Return an item of a request as `input_items` lists it."""
    kind = item.get("type") or "message"
    named = {"id": f"{_PREFIXES.get(kind, 'item')}_{stem}i{number:02x}", **item, "type": kind}
    if kind == "message":
        named = {"status": "completed", **named}
        if isinstance(item.get("content"), str):
            word = "output_text" if item.get("role") == "assistant" else "input_text"
            part = {"type": word, "text": item["content"]}
            named["content"] = [part if word == "input_text" else {**part, "annotations": []}]
    return named


def _sent_again(item: Item) -> Item | None:
    kind = item.get("type") or "message"
    if kind == "reasoning":
        summary = item.get("summary") or []
        if item.get("encrypted_content"):
            return {**item, "summary": summary}
        # Without a proof they are words: for those vendors who want their thoughts back as such.
        words = {"type": kind, "summary": summary, "content": item.get("content") or []}
        return words if words["summary"] or words["content"] else None
    if kind not in _PREFIXES:
        return item
    return {name: value for name, value in item.items() if name not in {"id", "status"}}
