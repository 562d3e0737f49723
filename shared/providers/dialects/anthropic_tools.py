"""Tools, and which of them are to be called, in Anthropic's words."""

from collections.abc import Mapping

import msgspec

from shared.chat.request import ChatRequest, ResponseFormat, Tool, ToolChoice
from shared.errors import UnsupportedParameter
from shared.providers.dialects.anthropic_names import Names, unique
from shared.providers.dialects.anthropic_parts import Block, marked
from shared.providers.dialects.anthropic_schema import strict_schema

_WEB_SEARCH = "web_search_20250305"
"""The oldest version of Anthropic's own search, which every model that can search knows."""


class ToolPlan(msgspec.Struct, frozen=True, kw_only=True):
    """`tools` and `tool_choice` to send, and what the answer must be read with.

    `forced`: a tool must be called. `gave_up`: it should have been, but the model takes no force.
    """

    tools: list[Block]
    choice: Block | None = None
    forced: bool = False
    gave_up: bool = False
    json_tool: str | None = None
    custom: frozenset[str] = frozenset()


def plan_tools(
    chat: ChatRequest, names: Names, *, forces: bool, strict: bool, json_tool: bool
) -> ToolPlan:
    """Return how to offer the tools.

    `forces`: the model takes a forced choice. `strict`: it knows strict tools. `json_tool`: a tool
    must stand for the response format.

    Raises:
        UnsupportedParameter: a tool that only another provider hosts.
    """
    offered = _allowed(chat)
    tools = [_tool(tool, names, chat.dialect, strict=strict) for tool in offered]
    stand_in = None
    if json_tool and chat.response_format is not None and not _names_one(chat.tool_choice):
        # Beside tools that may not be called, it is the only one left to call.
        taken = {names.sent(tool.name) for tool in offered}
        stand_in = unique(_name_of(chat.response_format), taken)
        tools.append(_json_tool(chat.response_format, stand_in))
    choice = _choice(chat, names, stand_in) if tools else None
    forced = choice is not None and choice["type"] in {"any", "tool"}
    if forced and not forces:
        choice = _auto_of(chat)
    return ToolPlan(
        tools=tools,
        choice=choice,
        forced=forced and forces,
        gave_up=forced and not forces,
        json_tool=stand_in,
        custom=frozenset(names.sent(tool.name) for tool in offered if tool.kind == "custom"),
    )


def _allowed(chat: ChatRequest) -> tuple[Tool, ...]:
    """Return the tools that may be called: Anthropic cannot be told to leave some alone."""
    allowed = chat.tool_choice.allowed if chat.tool_choice is not None else ()
    return tuple(tool for tool in chat.tools if not allowed or tool.name in allowed)


def _names_one(choice: ToolChoice | None) -> bool:
    return choice is not None and choice.mode == "named"


def _tool(tool: Tool, names: Names, dialect: str, *, strict: bool) -> Block:
    if tool.kind == "hosted":
        return marked(_hosted(tool, dialect), tool.cache)
    declared: Block = {"name": names.sent(tool.name)}
    description = tool.description or ""
    if tool.kind == "custom":
        description += _grammar(tool.format)
        schema: Mapping[str, object] = {
            "type": "object",
            "properties": {"input": {"type": "string"}},
            "required": ["input"],
        }
    else:
        schema = tool.parameters or {"type": "object", "properties": {}}
    if tool.strict and strict:
        declared["strict"] = True
        schema = strict_schema(schema)
    if description:
        declared["description"] = description
    declared["input_schema"] = {"type": "object", **schema}
    return marked(declared, tool.cache)


def _hosted(tool: Tool, dialect: str) -> Block:
    """Return a tool that runs at Anthropic; of other dialects only the web search has a like."""
    declared = dict(tool.format or {})
    if dialect == "anthropic":
        declared.pop("cache_control", None)
        return declared
    if not tool.name.startswith("web_search"):
        raise UnsupportedParameter(f"Claude does not host the tool {tool.name!r}.", param="tools")
    search: Block = {"type": _WEB_SEARCH, "name": "web_search"}
    place, filters = declared.get("user_location"), declared.get("filters")
    if isinstance(place, Mapping):
        search["user_location"] = place
    if isinstance(filters, Mapping) and filters.get("allowed_domains"):
        search["allowed_domains"] = filters["allowed_domains"]
    return search


def _grammar(form: Mapping[str, object] | None) -> str:
    """Return a custom tool's grammar as words: Anthropic has no place for it."""
    match form:
        case {"type": "grammar", "grammar": {"definition": str(definition)}}:
            return f"\n\nThe input must follow this grammar:\n{definition}"
        case {"type": "grammar", "definition": str(definition)}:
            return f"\n\nThe input must follow this grammar:\n{definition}"
        case _:
            return ""


def _json_tool(wanted: ResponseFormat, name: str) -> Block:
    schema = wanted.schema or {}
    return {
        "name": name,
        "description": wanted.description or "Give the answer, by calling this tool once.",
        "input_schema": {"type": "object", **schema},
    }


def _name_of(wanted: ResponseFormat) -> str:
    return Names([wanted.name or "answer"]).sent(wanted.name or "answer")


def _choice(chat: ChatRequest, names: Names, stand_in: str | None) -> Block | None:
    wanted = chat.tool_choice
    mode = None if wanted is None else wanted.mode
    if stand_in is not None and (mode == "none" or not chat.tools):
        return {"type": "tool", "name": stand_in}
    match mode:
        case "none":
            return {"type": "none"}
        case "named" if wanted is not None and wanted.name is not None:
            found: Block = {"type": "tool", "name": names.sent(wanted.name)}
        case "required":
            found = {"type": "any"}
        case _ if stand_in is not None:
            found = {"type": "any"}
        case "auto":
            found = {"type": "auto"}
        case _:
            return _auto_of(chat) if chat.parallel_tool_calls is False else None
    return found | _one_at_a_time(chat)


def _auto_of(chat: ChatRequest) -> Block:
    return {"type": "auto"} | _one_at_a_time(chat)


def _one_at_a_time(chat: ChatRequest) -> Block:
    return {"disable_parallel_tool_use": True} if chat.parallel_tool_calls is False else {}
