"""Who said what: roles, parts, tool calls."""

from typing import Literal

import msgspec

Role = Literal["system", "developer", "user", "assistant", "tool"]


class TextPart(msgspec.Struct, frozen=True, kw_only=True, tag="text"):
    """Plain text."""

    text: str


class ImagePart(msgspec.Struct, frozen=True, kw_only=True, tag="image"):
    """A picture by https or data URL; `detail` is OpenAI's low, high, auto or original."""

    url: str
    detail: str | None = None


class AudioPart(msgspec.Struct, frozen=True, kw_only=True, tag="audio"):
    """Sound as base64 in a format such as wav or mp3."""

    data: str
    format: str


class FilePart(msgspec.Struct, frozen=True, kw_only=True, tag="file"):
    """A document: uploaded before (`file_id`), or here as a data URL with a name."""

    file_id: str | None = None
    filename: str | None = None
    data_url: str | None = None


class RefusalPart(msgspec.Struct, frozen=True, kw_only=True, tag="refusal"):
    """An assistant's words of refusal, in history."""

    text: str


Part = TextPart | ImagePart | AudioPart | FilePart | RefusalPart


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call the model wants made; `arguments` is JSON text, free text for a custom tool."""

    id: str
    name: str
    arguments: str
    kind: Literal["function", "custom"] = "function"


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One turn. `tool_call_id` says which call a tool's message answers.

    `reasoning` is what an assistant thought, as callers send it back.
    """

    role: Role
    parts: tuple[Part, ...] = ()
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    reasoning: str | None = None

    @property
    def text(self) -> str:
        """The text parts, joined."""
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))
