"""Who said what: roles, parts, tool calls."""

from typing import Literal

import msgspec

Role = Literal["system", "developer", "user", "assistant", "tool"]


class CacheMark(msgspec.Struct, frozen=True, kw_only=True):
    """A wish to keep the prompt up to here in the provider's cache."""

    ttl: Literal["5m", "1h"] = "5m"


class TextPart(msgspec.Struct, frozen=True, kw_only=True, tag="text"):
    """Plain text."""

    text: str
    cache: CacheMark | None = None


class ImagePart(msgspec.Struct, frozen=True, kw_only=True, tag="image"):
    """A picture by https or data URL; `detail` is OpenAI's low, high, auto or original."""

    url: str
    detail: str | None = None
    cache: CacheMark | None = None


class AudioPart(msgspec.Struct, frozen=True, kw_only=True, tag="audio"):
    """Sound as base64 in a format such as wav or mp3."""

    data: str
    format: str


class FilePart(msgspec.Struct, frozen=True, kw_only=True, tag="file"):
    """A document: uploaded before (`file_id`), elsewhere (`url`), or here as a data URL."""

    file_id: str | None = None
    filename: str | None = None
    data_url: str | None = None
    url: str | None = None
    cache: CacheMark | None = None


class RefusalPart(msgspec.Struct, frozen=True, kw_only=True, tag="refusal"):
    """An assistant's words of refusal, in history."""

    text: str


Part = TextPart | ImagePart | AudioPart | FilePart | RefusalPart


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call the model wants made; `arguments` is JSON text, free text for a custom tool.

    `signature` is Gemini's proof of its thoughts, to be sent back with the call.
    """

    id: str
    name: str
    arguments: str
    kind: Literal["function", "custom"] = "function"
    signature: str | None = None
    cache: CacheMark | None = None


class Reasoning(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of what an assistant thought, or the summary of it.

    `signature` is the provider's proof: sent back unchanged, and only to `dialect`, which made it;
    where the thought is `redacted` it is all there is. `id` is the provider's name for the piece.
    """

    text: str = ""
    signature: str | None = None
    redacted: bool = False
    dialect: str | None = None
    id: str | None = None


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One turn. `tool_call_id` says which call a tool's message answers, `is_error` that it failed.

    `reasoning` is what an assistant thought before its words and calls, as callers send it back.
    """

    role: Role
    parts: tuple[Part, ...] = ()
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    is_error: bool = False
    reasoning: tuple[Reasoning, ...] = ()

    @property
    def text(self) -> str:
        """The text parts, joined."""
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))

    @property
    def thoughts(self) -> str:
        """The texts of its reasoning, joined."""
        return "".join(piece.text for piece in self.reasoning)
