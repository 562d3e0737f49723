"""Token counts made up from sizes: before a call for its hold, after a cut for its charge."""

from typing import Any, Protocol

import msgspec

from shared.chat.usage import Usage

HOLD_BYTES_PER_TOKEN = 2
"""Low on purpose: real text has 3 to 4.5 UTF-8 bytes per token, code and rare scripts fewer."""
TYPICAL_BYTES_PER_TOKEN = 4
"""OpenAI's rule of thumb for English text; for charges of calls that reported nothing."""
MESSAGE_TOKENS = 8
"""Role, separators and names around each message."""
IMAGE_TOKENS = 2_000
"""One image at high detail: GPT-4o at most 1,445, Claude about 1,600, Gemini 258 per tile."""
MEDIA_BYTES_PER_TOKEN = 16
"""Base64 of files and audio: a PDF page of 50 kB of base64 costs up to 3,000 tokens."""

MOST_OUTPUT_TOKENS = 200_000
"""Of one choice. The vendors' model pages name no more than 128,000 (GPT-5; Claude 64,000,
Gemini 2.5 65,536); a caller's larger bound cannot be reached and must not be held or charged."""

_ANSWERLESS = frozenset({"/v1/embeddings"})


class Asked(Protocol):
    """What an estimate needs of a request."""

    @property
    def endpoint(self) -> str:
        """Its path."""

    @property
    def raw(self) -> bytes:
        """Its body."""

    @property
    def message_count(self) -> int:
        """How many messages it has, 1 if it has no list of them."""

    @property
    def max_output_tokens(self) -> int | None:
        """The caller's bound on output per choice."""

    @property
    def choice_count(self) -> int:
        """How many answers are asked for."""


class _Media(msgspec.Struct):
    data: Any = None
    file_data: Any = None
    url: Any = None


class _Part(msgspec.Struct):
    image_url: _Media | str | None = None
    input_audio: _Media | None = None
    file: _Media | None = None


class _Message(msgspec.Struct):
    content: list[_Part] | str | None = None


class _Body(msgspec.Struct):
    messages: list[_Message] = []


_decode = msgspec.json.Decoder(_Body).decode


def worst_case(request: Asked, *, hold_output_tokens: int) -> Usage:
    """Return what a call will hardly exceed; what it holds until it is settled.

    Output is the caller's bound per choice, at most MOST_OUTPUT_TOKENS, else `hold_output_tokens`,
    which is not sent upstream.
    """
    answers = 0 if request.endpoint in _ANSWERLESS else request.choice_count
    bound = request.max_output_tokens
    return Usage(
        input_tokens=_input_tokens(request, HOLD_BYTES_PER_TOKEN),
        output_tokens=answers
        * (hold_output_tokens if bound is None else min(bound, MOST_OUTPUT_TOKENS)),
        estimated=True,
    )


def guessed_usage(request: Asked, content_bytes: int) -> Usage:
    """Return the likely counts of a call that reported none: sent in full, answered so far.

    `content_bytes` are the UTF-8 bytes of text and tool arguments that came.
    """
    output = 0 if request.endpoint in _ANSWERLESS else -(-content_bytes // TYPICAL_BYTES_PER_TOKEN)
    return Usage(
        input_tokens=_input_tokens(request, TYPICAL_BYTES_PER_TOKEN),
        output_tokens=output,
        estimated=True,
    )


def _input_tokens(request: Asked, bytes_per_token: int) -> int:
    media_bytes, media_tokens = _media(request.raw)
    text_bytes = max(0, len(request.raw) - media_bytes)
    messages = MESSAGE_TOKENS * request.message_count
    return -(-text_bytes // bytes_per_token) + messages + media_tokens


def _media(raw: bytes) -> tuple[int, int]:
    """Return the bytes of images, audio and files in a body, and the tokens they stand for.

    Only what stands where media belong counts as such: base64 in plain text is text.
    """
    if b'"image_url"' not in raw and b'"input_audio"' not in raw and b'"file"' not in raw:
        return 0, 0
    try:
        messages = _decode(raw).messages
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return 0, 0
    size_bytes = tokens = 0
    for message in messages:
        for part in message.content if isinstance(message.content, list) else ():
            part_bytes, part_tokens = _part_media(part)
            size_bytes += part_bytes
            tokens += part_tokens
    return size_bytes, tokens


def _part_media(part: _Part) -> tuple[int, int]:
    if part.image_url is not None:
        image = part.image_url
        return _length(image if isinstance(image, str) else image.url), IMAGE_TOKENS
    for media in (part.input_audio, part.file):
        if media is not None:
            size_bytes = _length(media.data) + _length(media.file_data)
            return size_bytes, -(-size_bytes // MEDIA_BYTES_PER_TOKEN)
    return 0, 0


def _length(text: object) -> int:
    return len(text) if isinstance(text, str) else 0
