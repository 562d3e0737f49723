"""A model of few words: it obeys what a question asks, by rules, whatever vendor it lives in.

It calls tools that it must call or that are named, with arguments from their schemas and the
question; it fills in a wished-for schema; it says something polite otherwise.
"""

import json
import re
from collections.abc import Callable, Mapping

from shared.chat.message import Message
from shared.chat.request import ChatRequest, Tool
from tests.fakes.upstream import Answer, Recorded, Script
from tests.fakes.vendors.scenes import SceneVendor

Read = Callable[[Recorded], ChatRequest]
"""How a vendor's question is read."""

MIN_WORD = 4
"""Letters of a word that says what a tool is for."""

_QUOTED = re.compile(r"'([^']+)'")
_SCHEMA = re.compile(r"JSON Schema:\s*({.*})", re.DOTALL)
_NUMBER = re.compile(r"\((\d+)\)")


def thinking_for(vendor: SceneVendor, read: Read) -> Script:
    """Return a script that lets the vendor answer whatever it is asked, in its own wire format."""

    def answer(request: Recorded) -> Answer:
        play(vendor, read(request))
        return vendor.next_scene(request)

    return answer


def play(vendor: SceneVendor, chat: ChatRequest) -> None:
    """Give the vendor the scene that answers this question."""
    said = _last_words(chat)
    tool = _wanted_tool(chat, said)
    if tool is not None:
        vendor.calls((tool.name, _filled(tool.parameters or {}, said)))
    elif (schema := _wanted_schema(chat)) is not None:
        vendor.says(json.dumps(_filled(schema, said)))
    elif "JSON" in said or _wants_json(chat):
        vendor.says(json.dumps(dict.fromkeys(_QUOTED.findall(said), "mew")))
    else:
        vendor.says("Hello there, this is an answer.")


def _wanted_schema(chat: ChatRequest) -> Mapping[str, object] | None:
    """Return the schema of the answer, also where it can only be told in words."""
    if chat.response_format is not None and chat.response_format.schema is not None:
        return chat.response_format.schema
    told = "".join(message.text for message in chat.messages if "system" == message.role)
    found = _SCHEMA.search(told)
    return json.loads(found[1]) if found else None


def _wants_json(chat: ChatRequest) -> bool:
    return chat.response_format is not None and "json_object" == chat.response_format.kind


def _last_words(chat: ChatRequest) -> str:
    asked = [message for message in chat.messages if "user" == message.role]
    return asked[-1].text if asked else ""


def _wanted_tool(chat: ChatRequest, said: str) -> Tool | None:
    """Return the tool that is to be called: once, not again when its result is there."""
    choice = chat.tool_choice
    if not chat.tools or _answered(chat.messages[-1]):
        return None
    if choice is not None and "named" == choice.mode:
        return next(tool for tool in chat.tools if choice.name == tool.name)
    if choice is not None and "required" == choice.mode:
        return chat.tools[0]
    if choice is not None and "none" == choice.mode:
        return None
    return next((tool for tool in chat.tools if _is_meant(tool, said)), None)


def _is_meant(tool: Tool, said: str) -> bool:
    words = [word for word in tool.name.split("_") if len(word) > MIN_WORD]
    return "tool" in said or any(word in said for word in words)


def _answered(message: Message) -> bool:
    return "tool" == message.role


def _filled(schema: Mapping[str, object], said: str) -> dict[str, object]:
    """Return an object of this schema, from numbers in brackets and words in quotes."""
    fields = schema.get("properties")
    assert isinstance(fields, Mapping) or fields is None
    return {name: _value(field, said) for name, field in (fields or {}).items()}


def _value(schema: Mapping, said: str) -> object:
    numbers, quoted = _NUMBER.findall(said), _QUOTED.findall(said)
    match schema.get("type"):
        case "integer" | "number":
            return int(numbers[0]) if numbers else 1
        case "boolean":
            return True
        case "array":
            return []
        case "object":
            return _filled(schema, said)
        case _:
            return quoted[0] if quoted else "pirate"
