"""The items of OpenAI's Responses as messages of the canonical language.

An assistant's turn is several items there and one message here: thoughts, words, calls.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from shared.chat.message import (
    AudioPart,
    FilePart,
    ImagePart,
    Message,
    Part,
    Reasoning,
    RefusalPart,
    Role,
    TextPart,
    ToolCall,
)
from shared.errors import InvalidRequest
from shared.providers.dialects.openai_served import signature_in
from shared.providers.dialects.responses_proof import unpacked

Item = Mapping[str, Any]

HOSTED = frozenset({
    "web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call",
    "mcp_list_tools", "mcp_approval_request", "mcp_approval_response", "mcp_call",
    "tool_search_call", "tool_search_output", "compaction",
})  # fmt: skip
"""What a provider's own tools leave in history. Nobody else can read it, and the words say it."""

_ROLES: Mapping[str, Role] = {"user": "user", "system": "system", "developer": "developer"}


def messages_of(items: Iterable[object]) -> tuple[Message, ...]:
    """Return the messages that these items make up, in their order.

    Raises:
        InvalidRequest: an item is of no known form; `param` is `input[N]`.
    """
    reading = _Reading()
    for at, item in enumerate(items):
        where = f"input[{at}]"
        if not isinstance(item, Mapping):
            raise InvalidRequest(f"`{where}` must be an object.", param=where)
        reading.take(item, where)
    return reading.result()


class _Reading:
    """Gathers an assistant's items until somebody else speaks."""

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._thoughts: list[Reasoning] = []
        self._parts: list[Part] = []
        self._calls: list[ToolCall] = []

    def take(self, item: Item, where: str) -> None:
        kind = item.get("type") or "message"
        match kind:
            case "message":
                self._message(item, where)
            case "reasoning":
                self._next_turn()
                self._thoughts.append(_reasoning(item))
            case "function_call" | "custom_tool_call":
                self._calls.append(_call(item, where))
            case "function_call_output" | "custom_tool_call_output":
                self._flush()
                self._messages.append(
                    Message(
                        role="tool",
                        parts=_parts(item.get("output"), f"{where}.output"),
                        tool_call_id=_required(item, "call_id", where),
                    )
                )
            case _ if kind in HOSTED:
                pass
            case _:
                raise InvalidRequest(
                    f"`{where}` is of a type that this model cannot be given: {kind!r}.",
                    param=where,
                )

    def result(self) -> tuple[Message, ...]:
        self._flush()
        return tuple(self._messages)

    def _message(self, item: Item, where: str) -> None:
        role = item.get("role")
        parts = _parts(item.get("content"), f"{where}.content")
        if role == "assistant":
            self._next_turn()
            self._parts += parts
            return
        if not isinstance(role, str) or role not in _ROLES:
            raise InvalidRequest(f"`{where}.role` is unknown: {role!r}.", param=f"{where}.role")
        self._flush()
        self._messages.append(Message(role=_ROLES[role], parts=parts))

    def _next_turn(self) -> None:
        """Begin another message after words; while calls wait for results there can be none."""
        if self._parts and not self._calls:
            self._flush()

    def _flush(self) -> None:
        if self._thoughts or self._parts or self._calls:
            self._messages.append(
                Message(
                    role="assistant",
                    parts=tuple(self._parts),
                    tool_calls=tuple(self._calls),
                    reasoning=tuple(self._thoughts),
                )
            )
        self._thoughts, self._parts, self._calls = [], [], []


def _reasoning(item: Item) -> Reasoning:
    text = "\n\n".join(_texts(item.get("summary"))) or "".join(_texts(item.get("content")))
    content, own_id = item.get("encrypted_content"), item.get("id")
    return unpacked(
        text,
        content if isinstance(content, str) else None,
        own_id if isinstance(own_id, str) else None,
    )


def _texts(parts: object) -> list[str]:
    return [
        part["text"]
        for part in (parts if isinstance(parts, list) else ())
        if isinstance(part, Mapping) and isinstance(part.get("text"), str)
    ]


def _call(item: Item, where: str) -> ToolCall:
    custom = item.get("type") == "custom_tool_call"
    return ToolCall(
        id=_required(item, "call_id", where),
        name=_required(item, "name", where),
        arguments=_text(item, "input" if custom else "arguments", where),
        kind="custom" if custom else "function",
        signature=signature_in(item.get("extra_content")),
    )


def _parts(content: object, where: str) -> tuple[Part, ...]:
    if isinstance(content, str):
        return (TextPart(text=content),)
    if content is None:
        return ()
    if not isinstance(content, list):
        raise InvalidRequest(f"`{where}` must be a text or a list of parts.", param=where)
    return tuple(_part(part, where) for part in content)


def _part(part: Any, where: str) -> Part:  # noqa: ANN401 (any JSON)
    match part:
        case {"type": "input_text" | "output_text" | "text", "text": str(text)}:
            return TextPart(text=text)
        case {"type": "refusal", "refusal": str(text)}:
            return RefusalPart(text=text)
        case {"type": "input_image", "image_url": str(url)}:
            return ImagePart(url=url, detail=_optional(part, "detail"))
        case {"type": "input_image", "file_id": str(file_id)}:
            return FilePart(file_id=file_id)
        case {"type": "input_file"}:
            return FilePart(
                file_id=_optional(part, "file_id"),
                filename=_optional(part, "filename"),
                data_url=_optional(part, "file_data"),
                url=_optional(part, "file_url"),
            )
        case {"type": "input_audio", "input_audio": {"data": str(sound), "format": str(form)}}:
            return AudioPart(data=sound, format=form)
        case _:
            kind = part.get("type") if isinstance(part, Mapping) else part
            raise InvalidRequest(f"`{where}` holds a part that is not a {kind!r}.", param=where)


def _optional(item: Item, name: str) -> str | None:
    found = item.get(name)
    return found if isinstance(found, str) else None


def _text(item: Item, name: str, where: str) -> str:
    found = item.get(name)
    if not isinstance(found, str):
        raise InvalidRequest(f"`{where}.{name}` must be a text.", param=f"{where}.{name}")
    return found


def _required(item: Item, name: str, where: str) -> str:
    found = _text(item, name, where)
    if not found:
        raise InvalidRequest(f"`{where}.{name}` must not be empty.", param=f"{where}.{name}")
    return found
