"""Tools, their choice and the answer's form, from Responses' flat words."""

from collections.abc import Mapping
from typing import Any

from shared.chat.request import ResponseFormat, Tool, ToolChoice
from shared.errors import InvalidRequest, UnsupportedParameter


def tool_of(tool: Any, at: int) -> Tool:  # noqa: ANN401 (any JSON)
    """Return a declared tool; one that runs at the provider is kept whole.

    Raises:
        InvalidRequest: it has no type, or a function no name; `param` is `tools[N]`.
    """
    where = f"tools[{at}]"
    match tool:
        case {"type": "function", "name": str(name)}:
            return Tool(
                name=name,
                description=_of(tool, "description", str),
                parameters=_of(tool, "parameters", dict),
                strict=_of(tool, "strict", bool),
            )
        case {"type": "custom", "name": str(name)}:
            return Tool(
                name=name,
                description=_of(tool, "description", str),
                kind="custom",
                format=_nested(_of(tool, "format", dict)),
            )
        case {"type": "function" | "custom"}:
            raise InvalidRequest(f"`{where}.name` must be a text.", param=f"{where}.name")
        case {"type": str(kind)}:
            return Tool(name=kind, kind="hosted", format=tool)
        case _:
            raise InvalidRequest(f"`{where}` has no type.", param=where)


def choice_of(choice: object) -> ToolChoice | None:
    """Return whether tools are to be called.

    Raises:
        InvalidRequest: it is of no known form.
        UnsupportedParameter: it forces a tool that runs at the provider.
    """
    match choice:
        case None:
            return None
        case "auto" | "none" | "required":
            return ToolChoice(mode=choice)
        case {"type": "function", "name": str(name)}:
            return ToolChoice(mode="named", name=name)
        case {"type": "custom", "name": str(name)}:
            return ToolChoice(mode="named", name=name, kind="custom")
        case {"type": "allowed_tools", "mode": str(mode), "tools": list(tools)}:
            return ToolChoice(
                mode="required" if mode == "required" else "auto",
                allowed=tuple(_name_of(tool) for tool in tools),
            )
        case {"type": str(kind)}:
            raise UnsupportedParameter(
                f"This model has no {kind!r} that could be forced.", param="tool_choice"
            )
        case _:
            raise InvalidRequest("`tool_choice` is of no known form.", param="tool_choice")


def format_of(form: Any) -> ResponseFormat | None:  # noqa: ANN401 (any JSON)
    """Return the form of the answer's text, None for plain text.

    Raises:
        InvalidRequest: it is of no known form.
    """
    match form:
        case None | {"type": "text"}:
            return None
        case {"type": "json_object"}:
            return ResponseFormat(kind="json_object")
        case {"type": "json_schema", "name": str(name), "schema": dict(schema)}:
            return ResponseFormat(
                kind="json_schema",
                name=name,
                description=_of(form, "description", str),
                schema=schema,
                strict=_of(form, "strict", bool),
            )
        case _:
            raise InvalidRequest("`text.format` is of no known form.", param="text.format")


def _nested(form: dict[str, Any] | None) -> Mapping[str, object] | None:
    """Return a custom tool's format as chat has it: a grammar one level deeper."""
    match form:
        case {"type": "grammar", "syntax": syntax, "definition": definition}:
            return {"type": "grammar", "grammar": {"syntax": syntax, "definition": definition}}
        case _:
            return form


def _name_of(tool: object) -> str:
    match tool:
        case {"name": str(name)}:
            return name
        case _:
            raise InvalidRequest("An allowed tool has no name.", param="tool_choice")


def _of(fields: Mapping[str, Any], name: str, kind: type[Any]) -> Any:  # noqa: ANN401 (as asked)
    found = fields.get(name)
    return found if isinstance(found, kind) else None
