"""Answers and chunks that are OpenAI's by the letter: a decode proves it, and tells what they say.

Nearly all are. The mender would hand them on untouched, after reading every value of theirs and
asking each for what may be wrong with it. The types here are its questions the other way round;
whatever does not fit them goes to it. Fields that nobody asks for are passed over.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from shared.providers.dialects.openai_usage import WireUsage

_Sound = TypeVar("_Sound")
_Word = Annotated[str, msgspec.Meta(min_length=1)]


class _Function(msgspec.Struct, gc=False):
    arguments: str


class _Call(msgspec.Struct, gc=False):
    id: _Word
    type: _Word
    function: _Function | None = None


class _Message(msgspec.Struct, gc=False):
    role: Literal["assistant"]
    content: str | None = None
    reasoning: None = None
    tool_calls: Annotated[list[_Call], msgspec.Meta(min_length=1)] | UnsetType = UNSET


class _Choice(msgspec.Struct, gc=False):
    index: int
    message: _Message
    finish_reason: Literal["stop", "length", "tool_calls", "content_filter", "function_call"]


class SoundAnswer(msgspec.Struct, gc=False):
    """A whole answer of a chat, as OpenAI's SDKs demand it."""

    id: _Word
    object: Literal["chat.completion"]
    created: int
    model: _Word
    choices: Annotated[list[_Choice], msgspec.Meta(min_length=1)]
    usage: WireUsage
    service_tier: Any = None
    error: None = None


class _Delta(msgspec.Struct, gc=False):
    role: Literal["assistant"] | UnsetType = UNSET
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: None = None
    refusal: str | None = None
    tool_calls: UnsetType = UNSET
    function_call: None = None
    audio: None = None

    def says(self) -> bool:
        """Return whether it holds words."""
        return bool(self.content or self.reasoning_content or self.refusal)


class _ChunkChoice(msgspec.Struct, gc=False):
    index: Literal[0]
    delta: _Delta
    finish_reason: Literal["stop", "length", "content_filter"] | None = None
    message: None = None
    text: None = None


class SoundChunk(msgspec.Struct, gc=False):
    """A chunk of a chat's only choice, without tools, that needs nothing where it fits the rest."""

    id: _Word
    object: Literal["chat.completion.chunk"]
    created: int
    model: _Word
    choices: Annotated[list[_ChunkChoice], msgspec.Meta(max_length=1)]
    usage: WireUsage | None = None
    service_tier: Any = None
    error: None = None
    x_groq: None = None

    def opens(self) -> bool:
        """Return whether it tells whose words follow."""
        return bool(self.choices) and self.choices[0].delta.role is not UNSET


_decode = msgspec.json.Decoder(SoundAnswer).decode
_decode_chunk = msgspec.json.Decoder(SoundChunk).decode


def sound(body: bytes) -> SoundAnswer | None:
    """Return a whole answer in which nothing is to be mended; None where that is not proven.

    Calls of tools are as they came: whoever has renamed tools has to look into them.
    """
    answer = _proven(_decode, body)
    return answer if answer is not None and _as_openai_counts(answer.usage) else None


def sound_chunk(payload: bytes) -> SoundChunk | None:
    """Return a chunk in which nothing is to be mended by itself; None where that is not proven.

    Whether it goes with those before it is the mender's to say.
    """
    chunk = _proven(_decode_chunk, payload)
    if chunk is None or chunk.usage is None or _as_openai_counts(chunk.usage):
        return chunk
    return None


def _proven(decode: Callable[[bytes], _Sound], body: bytes) -> _Sound | None:
    try:
        if not body.isascii():
            body.decode()  # what is passed over has to be text, too
        return decode(body)
    except (ValueError, RecursionError):  # UnicodeDecodeError and msgspec's among them
        return None


def _as_openai_counts(usage: WireUsage) -> bool:
    """Return whether reasoning is told inside the completion, and cache hits in the details."""
    outside = usage.completion_tokens_details
    if outside is not None and outside.reasoning_tokens:
        counts = (usage.prompt_tokens, usage.completion_tokens, outside.reasoning_tokens)
        if usage.total_tokens == sum(count or 0 for count in counts):
            return False
    if usage.prompt_cache_hit_tokens is None and usage.num_cached_tokens is None:
        return True
    inside = usage.prompt_tokens_details
    return inside is not None and inside.cached_tokens is not None
