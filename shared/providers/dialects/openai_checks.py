"""Steps that refuse what no vendor can answer: calls without results, files that are none."""

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from shared.errors import InvalidRequest
from shared.providers.dialects.data_url import is_data_url, read_data_url
from shared.providers.dialects.openai_draft import Draft, idle_in_plain_text

_BEGIN = 4_096
_END = 64
"""Characters of a file that are looked at when nothing seems wrong: no copy of 20 MB is made."""

_HEAD = re.compile(rb'"data:image/[a-z0-9.+-]+;base64,[A-Za-z0-9+/]+={0,2}"?')
_TAIL = re.compile(rb'[A-Za-z0-9+/]+={0,2}"')


class _Call(msgspec.Struct, gc=False):
    id: Any = None


class _Turn(msgspec.Struct, gc=False):
    role: Any = None
    tool_call_id: Any = None
    tool_calls: list[_Call] | None = None


class _Image(msgspec.Struct, gc=False):
    url: msgspec.Raw = msgspec.Raw()


class _Part(msgspec.Struct, gc=False):
    type: Any = None
    image_url: msgspec.Raw = msgspec.Raw()


class _Said(msgspec.Struct, gc=False):
    content: msgspec.Raw = msgspec.Raw()


_decode_image = msgspec.json.Decoder(_Image).decode
_decode_parts = msgspec.json.Decoder(list[_Part]).decode


@idle_in_plain_text
def calls_answered(draft: Draft) -> None:
    """Every call in the history has its result right after it, and every result its call.

    Raises:
        InvalidRequest: one has not; the message names the id.
    """
    if not draft.calls_tools():
        return
    history = draft.history()
    turns = _items(draft, list[_Turn]) if history is None else history.turns
    waiting: list[str] = []
    for at, turn in enumerate(turns):
        if turn.role == "tool":
            if turn.tool_call_id in waiting:
                waiting.remove(turn.tool_call_id)
            elif isinstance(turn.tool_call_id, str):
                raise InvalidRequest(
                    f"The tool message for {turn.tool_call_id!r} answers no call of the turn "
                    "before it.",
                    param=f"messages[{at}].tool_call_id",
                )
            continue
        _refuse_waiting(waiting)
        waiting = [call.id for call in turn.tool_calls or () if isinstance(call.id, str)]
    _refuse_waiting(waiting)


def _refuse_waiting(waiting: list[str]) -> None:
    if waiting:
        raise InvalidRequest(
            "An assistant message with tool calls must be followed by a tool message for each; "
            f"missing: {', '.join(map(repr, waiting))}.",
            param="messages",
        )


@idle_in_plain_text
def pictures_readable(draft: Draft) -> None:
    """Pictures inside the request are pictures, and their base64 is whole.

    Raises:
        InvalidRequest: one is not; `param` says where.
    """
    if not draft.has_parts() or not draft.mentions(b"data:"):
        return
    for at, said in enumerate(_items(draft, list[_Said])):
        for number, url in _pictures(said.content):
            _check(url, f"messages[{at}].content[{number}].image_url")


def _pictures(content: msgspec.Raw) -> Iterator[tuple[int, msgspec.Raw]]:
    if bytes(memoryview(content)[:1]) != b"[":
        return
    try:
        for number, part in enumerate(_decode_parts(content)):
            kind = bytes(memoryview(part.image_url)[:1])
            if part.type == "image_url" and kind in (b"{", b'"'):
                yield number, part.image_url if kind == b'"' else _decode_image(part.image_url).url
    except msgspec.DecodeError:
        return  # for the vendor to refuse


def _check(url: msgspec.Raw, where: str) -> None:
    view = memoryview(url)
    if _HEAD.fullmatch(view[:_BEGIN]) and _TAIL.fullmatch(view[-_END:]):
        return
    text = msgspec.json.decode(url) if view else None
    if not isinstance(text, str) or not is_data_url(text):
        return
    kind = read_data_url(text, where=where).media_type
    if not kind.startswith("image/"):
        raise InvalidRequest(f"A picture cannot be {kind!r}.", param=where)


def _items(draft: Draft, kind: Any) -> Any:  # noqa: ANN401 (a list of that kind)
    """Return the messages as `kind`, no more of them read than it names; [] if they are odd."""
    value = draft.body.get("messages")
    raw = value if isinstance(value, msgspec.Raw) else msgspec.json.encode(value)
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.DecodeError:
        return []
