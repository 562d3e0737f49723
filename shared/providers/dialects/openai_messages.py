"""Steps about messages: roles and fields that OpenAI knows and its imitators do not."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from shared.errors import UnsupportedParameter
from shared.providers.dialects.openai_draft import Draft, Json, Step, calls_of, idle_in_plain_text
from shared.providers.history import Turn

CACHE_MARK = "cache_control"
_SYSTEM = ("system", "developer")
_THOUGHTS = ("reasoning_content", "reasoning", "reasoning_details")


@idle_in_plain_text
def developer_as_system(draft: Draft) -> None:
    """`developer` is OpenAI's own word."""
    if not draft.has_role("developer"):
        return
    for message in draft.messages():
        if message.get("role") == "developer":
            message["role"] = "system"


@idle_in_plain_text
def system_first(draft: Draft) -> None:
    """Put all that leads into one system message, and turn later ones into tagged user text.

    For servers that render the prompt by the model's own template: many of these (Qwen, Mistral)
    refuse a system message that is not the very first. A target that takes them anywhere says so
    by the capability `system_anywhere`.
    """
    if draft.can("system_anywhere", default=False):
        return
    if not any(head.role in _SYSTEM for head in draft.heads()[1:]):
        return
    messages = draft.messages()
    leading = 0
    while leading < len(messages) and messages[leading].get("role") in _SYSTEM:
        leading += 1
    first = [_joined(messages[:leading])] if leading else []
    rest = [_tagged(m) if m.get("role") in _SYSTEM else m for m in messages[leading:]]
    draft.body["messages"] = [*first, *rest]


def _joined(messages: list[Json]) -> Json:
    if len(messages) == 1:
        return messages[0]
    text = "\n\n".join(filter(None, (text_of(message) for message in messages)))
    return {**messages[0], "content": text}


def _tagged(message: Json) -> Json:
    return {"role": "user", "content": f"<system>\n{text_of(message)}\n</system>"}


def text_of(message: Mapping[str, Any]) -> str:
    """Return a message's text, whatever form its content has."""
    content = message.get("content")
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        return "".join(text for text in parts if isinstance(text, str))
    return content if isinstance(content, str) else ""


def without_names(draft: Draft) -> None:
    """Participants' names are refused, except those of tools and functions."""
    if all(head.name is None or head.role in ("tool", "function") for head in draft.heads()):
        return
    for message in draft.messages():
        if message.get("role") not in ("tool", "function"):
            message.pop("name", None)


def without_cache_marks(draft: Draft) -> None:
    """Marks of what to cache are Anthropic's spelling; these vendors cache by themselves."""
    if not draft.mentions(b'"cache_control"'):
        return
    for message in draft.messages():
        message.pop(CACHE_MARK, None)
        content = message.get("content")
        for part in content if isinstance(content, list) else ():
            if isinstance(part, dict):
                part.pop(CACHE_MARK, None)
    for tool in draft.read("tools") or ():
        if isinstance(tool, dict):
            tool.pop(CACHE_MARK, None)
            if isinstance(tool.get("function"), dict):
                tool["function"].pop(CACHE_MARK, None)
    draft.body.pop(CACHE_MARK, None)


def thoughts_as(name: str | None, *, details: bool = False) -> Step:
    """Return a step that gives thoughts in the history their vendor's name, None for none at all.

    `details` says whether the vendor wants its `reasoning_details` back.
    """

    def step(draft: Draft) -> None:
        if not draft.mentions(b'"reasoning'):
            return
        for message in draft.messages():
            found = [message.get(word) for word in _THOUGHTS[:2]]
            thought = next((one for one in found if isinstance(one, str)), None)
            for word in _THOUGHTS[: 2 if details else 3]:
                message.pop(word, None)
            if name is not None and thought is not None and message.get("role") == "assistant":
                message[name] = thought

    return step


@idle_in_plain_text
def without_call_extras(draft: Draft) -> None:
    """Calls in the history are sent without what other vendors added to them."""
    if not draft.calls_tools():
        return
    if not (draft.mentions(b'"extra_content"') or draft.mentions(b'"index"')):
        return
    for call in calls_in(draft):
        for extra in ("extra_content", "index", CACHE_MARK):
            call.pop(extra, None)


def refusals_as_text(draft: Draft) -> None:
    """A refusal in the history is OpenAI's own part; to others it is what the assistant said."""
    if not draft.mentions(b'"refusal"'):
        return
    for message in draft.messages():
        refusal = message.pop("refusal", None)
        content = message.get("content")
        if isinstance(refusal, str) and not content:
            message["content"] = refusal
        for part in content if isinstance(content, list) else ():
            if isinstance(part, dict) and part.get("type") == "refusal":
                part["type"] = "text"
                part["text"] = part.pop("refusal", "")


def refuses_parts(*kinds: str) -> Step:
    """Return a step that refuses requests with parts the vendor cannot take: they are the question.

    Raises (the step):
        UnsupportedParameter: such a part is there; `param` says where.
    """
    words = [f'"{kind}"'.encode() for kind in kinds]

    @idle_in_plain_text
    def step(draft: Draft) -> None:
        if not draft.has_parts() or not any(map(draft.mentions, words)):
            return
        for at, message in enumerate(draft.messages()):
            content = message.get("content")
            for number, part in enumerate(content if isinstance(content, list) else ()):
                if isinstance(part, dict) and part.get("type") in kinds:
                    raise UnsupportedParameter(
                        f"{draft.model} takes no {part['type']!r} parts here.",
                        param=f"messages[{at}].content[{number}].type",
                    )

    return step


@idle_in_plain_text
def refuses_file_urls(draft: Draft) -> None:
    """Documents are taken inside the request or by an upload's id, not by address.

    Raises:
        UnsupportedParameter: one is given by address; without it the question would be another.
    """
    if not draft.has_parts() or not draft.mentions(b'"file_data"'):
        return
    for at, message in enumerate(draft.messages()):
        content = message.get("content")
        for number, part in enumerate(content if isinstance(content, list) else ()):
            match part:
                case {"file": {"file_data": str(found)}} if found.startswith(("http:", "https:")):
                    raise UnsupportedParameter(
                        f"{draft.model} takes no documents by URL; send the document itself.",
                        param=f"messages[{at}].content[{number}].file.file_data",
                    )


def short_call_ids(rule: Callable[[str], bool], made: Callable[[str, int], str]) -> Step:
    """Return a step that gives calls another id where `rule` does not hold, with their results.

    `made` is asked for a new one, and again with 1, 2 … while that is taken in this request.
    """

    @idle_in_plain_text
    def step(draft: Draft) -> None:
        if draft.calls_tools() and not all(map(rule, _ids(draft))):
            _renamed(draft, rule, made)

    return step


class _Call(msgspec.Struct, gc=False):
    id: Any = None


class _Calling(msgspec.Struct, gc=False):
    tool_call_id: Any = None
    tool_calls: list[_Call] | None = None


_decode_ids = msgspec.json.Decoder(list[_Calling]).decode


def _ids(draft: Draft) -> list[str]:
    """Return the ids of calls and results, without reading what is said."""
    turns = _turns(draft)
    if turns is not None:
        found = [call.id for turn in turns for call in turn.tool_calls or ()]
        found += [turn.tool_call_id for turn in turns]
    else:
        found = [call.get("id") for call in calls_in(draft)]
        found += [message.get("tool_call_id") for message in draft.messages()]
    return [one for one in found if isinstance(one, str)]


def _turns(draft: Draft) -> Sequence[Turn | _Calling] | None:
    """Return what names calls and results, None where messages are plain values already."""
    history, value = draft.history(), draft.body.get("messages")
    if history is not None:
        return history.turns
    if not isinstance(value, msgspec.Raw):
        return None
    try:
        return _decode_ids(value)
    except msgspec.DecodeError:
        return ()  # for the vendor to refuse


def _renamed(draft: Draft, rule: Callable[[str], bool], made: Callable[[str, int], str]) -> None:
    table: dict[str, str] = {}
    taken = {one for one in _ids(draft) if rule(one)}

    def new(old: object) -> object:
        if not isinstance(old, str) or rule(old):
            return old
        if old not in table:
            tries = 0
            while (fresh := made(old, tries)) in taken:
                tries += 1
            taken.add(fresh)
            table[old] = fresh
        return table[old]

    for call in calls_in(draft):
        call["id"] = new(call.get("id"))
    for message in draft.messages():
        if "tool_call_id" in message:
            message["tool_call_id"] = new(message["tool_call_id"])


def calls_in(draft: Draft) -> list[Json]:
    """Return the calls of the history, to be changed in place."""
    return [call for message in draft.messages() for call in calls_of(message)]
