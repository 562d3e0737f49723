"""Tools as Gemini declares them, and whether they are to be called."""

from collections.abc import Mapping, Sequence

import msgspec

from shared.chat.request import ChatRequest, Tool, ToolChoice
from shared.providers.dialects.gemini_models import Gemini
from shared.providers.dialects.gemini_names import ToolNames
from shared.providers.dialects.gemini_parts import Json

JSON_TOOL = "json_answer"
"""Stands for a response format where the model cannot have both a format and functions."""

FREE_TEXT: Json = {
    "type": "object",
    "properties": {"input": {"type": "string"}},
    "required": ["input"],
}
"""What wraps the free text of a custom tool."""

_HOSTED = {
    "web_search": "googleSearch",
    "code_execution": "codeExecution",
    "code_interpreter": "codeExecution",
    "web_fetch": "urlContext",
}
"""Other vendors' hosted tools, by how their names begin, as Google's."""


class Offered(msgspec.Struct, frozen=True, kw_only=True):
    """`tools` and `toolConfig` of a request, and what its answer must be read with."""

    fields: Json = {}
    json_tool: str | None = None
    custom: frozenset[str] = frozenset()
    dropped: tuple[str, ...] = ()


def offered(chat: ChatRequest, model: Gemini, names: ToolNames) -> Offered:
    """Return what the model may call.

    Where functions and a JSON schema cannot be joined (before generation 3), the schema becomes one
    more function, and one of them must be called.
    """
    choice = chat.tool_choice or ToolChoice(mode="auto")
    tools = [tool for tool in chat.tools if tool.kind != "hosted"]
    if choice.mode == "auto" and choice.allowed:
        tools = [tool for tool in tools if tool.name in choice.allowed]
    hosted, lost = _hosted(chat, model, alone=not tools)
    json_tool = _json_tool(chat, model) if tools else None
    declared = [_declared(tool, names) for tool in tools]
    if json_tool is not None:
        declared.append(json_tool)
    fields: Json = {}
    if declared or hosted:
        functions = [{"functionDeclarations": declared}] if declared else []
        fields["tools"] = [*functions, *({name: {}} for name in hosted)]
    calling = _calling(chat.tool_choice, names, forced=json_tool is not None)
    if declared and calling is not None:
        fields["toolConfig"] = {"functionCallingConfig": calling}
    if chat.parallel_tool_calls is False and tools:
        lost.append("parallel_tool_calls")
    return Offered(
        fields=fields,
        json_tool=None if json_tool is None else JSON_TOOL,
        custom=frozenset(names.sent(tool.name) for tool in tools if tool.kind == "custom"),
        dropped=tuple(lost),
    )


def _hosted(chat: ChatRequest, model: Gemini, *, alone: bool) -> tuple[list[str], list[str]]:
    """Return Google's names of the hosted tools, and the caller's fields that have none.

    Models before generation 3 have them without functions only.
    """
    wanted = [(tool.name, "tools") for tool in chat.tools if tool.kind == "hosted"]
    if chat.extra.get("web_search_options") is not None:
        wanted.append(("web_search", "web_search_options"))
    found: dict[str, None] = {}
    lost: dict[str, None] = {}
    for name, field in wanted:
        google = next((its for begin, its in _HOSTED.items() if name.startswith(begin)), None)
        if google is None or not (alone or model.third):
            lost[field] = None
        else:
            found[google] = None
    return list(found), list(lost)


def _declared(tool: Tool, names: ToolNames) -> Json:
    declared: Json = {"name": names.sent(tool.name)}
    if tool.description is not None:
        declared["description"] = tool.description
    schema = FREE_TEXT if tool.kind == "custom" else _schema(tool.parameters)
    if schema is not None:
        declared["parametersJsonSchema"] = schema
    return declared


def _schema(parameters: Mapping[str, object] | None) -> Mapping[str, object] | None:
    """Return the schema of an object, None for one that says nothing about its properties."""
    says = {"properties", "additionalProperties", "$ref", "anyOf", "oneOf", "allOf"}
    if not parameters or not says & parameters.keys():
        return None
    return parameters if "type" in parameters else {"type": "object", **parameters}


def _json_tool(chat: ChatRequest, model: Gemini) -> Json | None:
    wanted = chat.response_format
    named = chat.tool_choice is not None and chat.tool_choice.mode == "named"
    if model.third or named or wanted is None or wanted.schema is None:
        return None
    return {
        "name": JSON_TOOL,
        "description": wanted.description or "Gives the final answer. Call it when you have it.",
        "parametersJsonSchema": _schema(wanted.schema) or {"type": "object"},
    }


def _calling(choice: ToolChoice | None, names: ToolNames, *, forced: bool) -> Json | None:
    """Return `functionCallingConfig`; only the mode ANY takes names."""
    mode = "auto" if choice is None else choice.mode
    allowed: Sequence[str] = () if choice is None else choice.allowed
    if mode == "named" and choice is not None and choice.name is not None:
        return {"mode": "ANY", "allowedFunctionNames": [names.sent(choice.name)]}
    if forced and mode == "none":
        return {"mode": "ANY", "allowedFunctionNames": [JSON_TOOL]}
    if mode == "required" and allowed:
        return {"mode": "ANY", "allowedFunctionNames": [names.sent(name) for name in allowed]}
    if forced:
        return {"mode": "ANY"}
    if choice is None:
        return None
    return {"mode": {"none": "NONE", "required": "ANY"}.get(mode, "AUTO")}
