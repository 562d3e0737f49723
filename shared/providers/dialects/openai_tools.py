"""Steps about tools: settings without tools, names that vendors refuse, words of tool_choice."""

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from shared.providers.dialects.openai_draft import Draft, Json, Step, calls_of, idle_in_plain_text
from shared.providers.history import Call, Turn

NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
"""What every vendor takes as a tool's name; names from elsewhere are longer or dotted."""

_STRANGE = re.compile(r"[^a-zA-Z0-9_-]+")
_KEPT = 53
"""Characters of a changed name that stay readable: 64 less a mark and 10 of a digest."""

_EMPTY = (b"[]", b"null")


_decode_named = msgspec.json.Decoder(list[Call]).decode


@idle_in_plain_text
def no_idle_tool_fields(draft: Draft) -> None:
    """Settings of tools are refused where there are none; an empty list is none."""
    body = draft.body
    if "tools" in body:
        tools = body["tools"]
        if bytes(tools) not in _EMPTY if isinstance(tools, msgspec.Raw) else tools:
            return
        del body["tools"]
    for name in ("tool_choice", "parallel_tool_calls"):
        if name in body:
            del body[name]


@idle_in_plain_text
def safe_tool_names(draft: Draft) -> None:
    """Give tools with names that vendors refuse another one, for the length of this call.

    Deterministic and free of collisions; also in the history and in tool_choice. The names in the
    answer are turned back.
    """
    # A history may call tools that are not offered any more.
    called = draft.calls_tools()
    if not called and "tools" not in draft.body:
        return
    table = _table([*_declared(draft), *(_called(draft) if called else ())])
    if not table:
        return
    draft.names.update({new: old for old, new in table.items()})
    for place in _named_places(draft):
        name = place.get("name")
        if isinstance(name, str) and name in table:
            place["name"] = table[name]


def _table(names: Iterable[object]) -> dict[str, str]:
    """Return new names for those that need one, none of them equal to another."""
    known = {name for name in names if isinstance(name, str)}
    return {name: shortened(name) for name in known if name and not NAME.fullmatch(name)}


def shortened(name: str) -> str:
    """Return a name that every vendor takes; the digest keeps two long ones apart."""
    digest = hashlib.blake2b(name.encode(), digest_size=5).hexdigest()
    return f"{_STRANGE.sub('_', name)[:_KEPT]}_{digest}"


def _declared(draft: Draft) -> Iterator[object]:
    """Yield the declared names without reading the schemas."""
    tools = draft.body.get("tools")
    if isinstance(tools, msgspec.Raw):
        try:
            found = _decode_named(tools)
        except msgspec.DecodeError:
            return  # for the vendor to refuse
        for tool in found:
            called = tool.function or tool.custom
            yield None if called is None else called.name
    elif isinstance(tools, list):
        for tool in tools:
            yield from (place.get("name") for place in _inner(tool))


class _Calling(msgspec.Struct, gc=False):
    tool_calls: list[Call] | None = None


_decode_calls = msgspec.json.Decoder(list[_Calling]).decode


def _called(draft: Draft) -> Iterator[object]:
    """Yield the names of calls in the history."""
    messages, history = draft.body.get("messages"), draft.history()
    if isinstance(messages, msgspec.Raw):
        found: Sequence[Turn | _Calling]
        try:
            found = _decode_calls(messages) if history is None else history.turns
        except msgspec.DecodeError:
            return
        for message in found:
            for call in message.tool_calls or ():
                called = call.function or call.custom
                yield None if called is None else called.name
    else:
        for said in draft.messages():
            for made in calls_of(said):
                yield from (place.get("name") for place in _inner(made))


def _named_places(draft: Draft) -> Iterator[Json]:
    """Yield every object of the body that holds a tool's name."""
    for tool in draft.read("tools") or ():
        yield from _inner(tool)
    for message in draft.messages():
        for call in calls_of(message):
            yield from _inner(call)
        if message.get("role") == "tool":
            yield message
    choice = draft.read("tool_choice")
    if isinstance(choice, dict):
        yield from _inner(choice)
        allowed = choice.get("allowed_tools")
        for tool in (allowed.get("tools") or ()) if isinstance(allowed, dict) else ():
            yield from _inner(tool)


def _inner(place: object) -> Iterator[Json]:
    """Yield the `function` or `custom` of a tool, a call or a choice."""
    if isinstance(place, dict):
        for kind in ("function", "custom"):
            if isinstance(place.get(kind), dict):
                yield place[kind]


def tool_choice_word(required: str) -> Step:
    """Return a step for vendors with another word for `required`."""

    def step(draft: Draft) -> None:
        if draft.has("tool_choice") and draft.read("tool_choice") == "required":
            draft.body["tool_choice"] = required

    return step


def forced(draft: Draft) -> bool:
    """Return whether the caller insists on a call."""
    match draft.read("tool_choice") if draft.has("tool_choice") else None:
        case {"type": "allowed_tools", "allowed_tools": {"mode": mode}}:
            return bool(mode == "required")
        case {"type": "function" | "custom"} | "required" | "any":
            return True
        case _:
            return False


def no_forced_choice(draft: Draft) -> None:
    """The vendor only lets the model choose: the tools stay, the force is dropped."""
    if forced(draft) and not draft.can("tool_choice", default=False):
        draft.note("tool_choice")
        draft.body["tool_choice"] = "auto"


def without_tool_fields(*names: str) -> Step:
    """Return a step that takes fields out of the declared functions."""
    marks = [f'"{name}"'.encode() for name in names]

    def step(draft: Draft) -> None:
        if not draft.has("tools") or not any(map(draft.mentions, marks)):
            return
        for tool in draft.read("tools"):
            for function in _inner(tool):
                for name in names:
                    function.pop(name, None)

    return step
