"""Tools, the choice among them and the answer's form, as Bedrock's families take them."""

from collections.abc import Mapping

import msgspec

from shared.chat.request import ChatRequest, ResponseFormat, Tool, ToolChoice
from shared.providers.dialects.anthropic_schema import strict_schema
from shared.providers.dialects.bedrock_media import Block
from shared.providers.dialects.bedrock_models import Family
from shared.providers.dialects.bedrock_names import ToolNames
from shared.providers.dialects.bedrock_turns import WRAPPED, point

JSON_TOOL = "respond_with_json"
_FREE_TEXT = {"type": "object", "properties": {WRAPPED: {"type": "string"}}, "required": [WRAPPED]}
_NO_CALLS = "Do not call any tool; answer in words."
_ANY_JSON = "Answer with one JSON object and nothing else."


class ToolPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The fields to send.

    `native_choice` is Anthropic's own tool_choice, for what Converse has no word for.
    `instructions` go into the system text. `forced`: the model has no choice but to call.
    """

    config: Block | None = None
    native_choice: Block | None = None
    text_format: Block | None = None
    instructions: tuple[str, ...] = ()
    json_tool: str | None = None
    custom_tools: frozenset[str] = frozenset()
    forced: bool = False
    dropped: tuple[str, ...] = ()


def plan_tools(chat: ChatRequest, family: Family, names: ToolNames) -> ToolPlan:
    """Return how tools and the answer's form are asked for.

    A history with tool calls needs tools even where the caller offers none now: then they are
    declared by their names alone.
    """
    drafting = _Draft(chat, family, names)
    drafting.offer()
    drafting.shape()
    drafting.choose()
    return drafting.plan()


class _Draft:
    def __init__(self, chat: ChatRequest, family: Family, names: ToolNames) -> None:
        self._chat = chat
        self._family = family
        self._names = names
        self._specs: list[Block] = []
        self._dropped: list[str] = []
        self._instructions: list[str] = []
        self._choice: Block | None = None
        self._native: Block | None = None
        self._format: Block | None = None
        self._json_tool: str | None = None
        self._custom: set[str] = set()
        self._offered = False

    def offer(self) -> None:
        """Declare the tools, or those of the history."""
        choice = self._chat.tool_choice
        allowed = () if choice is None else choice.allowed
        declared = [
            tool
            for tool in self._chat.tools
            if tool.kind != "hosted" and (not allowed or tool.name in allowed)
        ]
        if any(tool.kind == "hosted" for tool in self._chat.tools):
            self._drop("tools")
        self._offered = bool(declared) and (choice is None or choice.mode != "none")
        used = {call.name: None for one in self._chat.messages for call in one.tool_calls}
        if not self._offered and not used:
            return
        self._specs = [block for tool in declared for block in self._spec(tool)]
        if not self._offered:
            known = {tool.name for tool in declared}
            self._specs += [self._named(name) for name in used if name not in known]

    def shape(self) -> None:
        """Ask for the answer's form: natively, by a tool that takes it, or in words."""
        wanted = self._chat.response_format
        if wanted is None or wanted.kind == "text":
            return
        if wanted.kind == "json_object" or wanted.schema is None:
            self._instructions.append(_ANY_JSON)
        elif self._family.schemas:
            self._format = _text_format(
                wanted, wanted.schema, claude=self._family.claude is not None
            )
        elif self._family.forced:
            self._json_tool = self._free_name()
            self._specs.append(_json_spec(self._json_tool, wanted))
        else:
            self._drop("response_format")
            schema = msgspec.json.encode(wanted.schema).decode()
            self._instructions.append(f"{_ANY_JSON} It must satisfy this JSON Schema: {schema}")

    def choose(self) -> None:
        """Choose among the tools."""
        choice = self._chat.tool_choice or ToolChoice(mode="auto")
        if self._json_tool is not None:
            self._choice = {"any": {}} if self._offered else {"tool": {"name": self._json_tool}}
        if self._offered and choice.mode in {"required", "named"}:
            self._force(choice)
        elif self._specs and not self._offered and self._json_tool is None:
            self._forbid()
        if self._offered and self._chat.parallel_tool_calls is False:
            self._one_at_a_time()

    def plan(self) -> ToolPlan:
        """Return the outcome."""
        config: Block | None = {"tools": self._specs} if self._specs else None
        if config is not None and self._choice is not None and self._native is None:
            config["toolChoice"] = self._choice
        return ToolPlan(
            config=config,
            native_choice=self._native,
            text_format=self._format,
            instructions=tuple(self._instructions),
            json_tool=self._json_tool,
            custom_tools=frozenset(self._custom),
            forced=self._choice is not None,
            dropped=tuple(self._dropped),
        )

    def _force(self, choice: ToolChoice) -> None:
        known = any(tool.name == choice.name for tool in self._chat.tools)
        if not self._family.forced or (choice.mode == "named" and not known):
            self._drop("tool_choice")
        elif choice.mode == "named":
            self._choice = {"tool": {"name": self._names[choice.name or ""]}}
        else:
            self._choice = {"any": {}}

    def _forbid(self) -> None:
        """Ask for words where tools have to be declared and must not be called."""
        if self._family.claude is not None:
            self._native = {"type": "none"}
        else:
            self._instructions.append(_NO_CALLS)

    def _one_at_a_time(self) -> None:
        if self._family.claude is None:
            self._drop("parallel_tool_calls")
            return
        match self._choice:
            case {"tool": {"name": name}}:
                self._native = {"type": "tool", "name": name}
            case {"any": _}:
                self._native = {"type": "any"}
            case _:
                self._native = {"type": "auto"}
        self._native["disable_parallel_tool_use"] = True

    def _spec(self, tool: Tool) -> list[Block]:
        name = self._names[tool.name]
        spec: Block = {"name": name}
        if (tool.description or "").strip():
            spec["description"] = tool.description
        if tool.kind == "custom":
            self._custom.add(name)
            spec["inputSchema"] = {"json": _FREE_TEXT}
        else:
            spec["inputSchema"] = {"json": _object_schema(tool.parameters)}
        if tool.strict and self._family.schemas:
            spec["strict"] = True
        marked = tool.cache is not None and self._family.caches_tools
        return [{"toolSpec": spec}, *([point(tool.cache)] if marked and tool.cache else [])]

    def _named(self, name: str) -> Block:
        return {
            "toolSpec": {
                "name": self._names[name],
                "inputSchema": {"json": _object_schema(None)},
            }
        }

    def _free_name(self) -> str:
        taken = {spec["toolSpec"]["name"] for spec in self._specs if "toolSpec" in spec}  # type: ignore[index]
        name = JSON_TOOL
        while name in taken:
            name += "_"
        return name

    def _drop(self, field: str) -> None:
        if field not in self._dropped:
            self._dropped.append(field)


def _object_schema(parameters: Mapping[str, object] | None) -> Mapping[str, object]:
    """Return a schema whose top is an object, which is demanded."""
    if not parameters:
        return {"type": "object", "properties": {}}
    if parameters.get("type") == "object":
        return parameters
    return {**parameters, "type": "object"}


def _text_format(wanted: ResponseFormat, schema: Mapping[str, object], *, claude: bool) -> Block:
    taken = strict_schema(schema) if claude else schema
    told = {"schema": msgspec.json.encode(taken).decode()}
    told |= {word: text for word in ("name", "description") if (text := getattr(wanted, word))}
    return {"type": "json_schema", "structure": {"jsonSchema": told}}


def _json_spec(name: str, wanted: ResponseFormat) -> Block:
    description = wanted.description or "Give the answer. Its arguments are the whole answer."
    schema = {"json": _object_schema(wanted.schema)}
    return {"toolSpec": {"name": name, "description": description, "inputSchema": schema}}
