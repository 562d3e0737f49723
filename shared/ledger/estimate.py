"""Token counts made up from sizes: before a call for its hold, after a cut for its charge."""

import re
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import msgspec

from shared.chat.usage import MOST_TOKENS, Usage, bounded
from shared.ledger.sound import SPEECH, TRANSCRIPTIONS, likely_sound, sound_to_hold

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

_ANSWERLESS = frozenset({"/v1/embeddings", "/v1/moderations", "/v1/rerank"})
_SOUND = frozenset({SPEECH, TRANSCRIPTIONS})
_FREE = frozenset({"/v1/messages/count_tokens"})
"""Nobody charges for counting."""
_PICTURES = "/v1/images/generations"
PICTURE_TOKENS = 6_240
"""One picture of GPT Image at its largest and best, by OpenAI's table."""
_IN_WORDS = frozenset({"/v1/chat/completions", "/v1/completions", "/v1/messages", "/v1/responses"})


class Asked(Protocol):
    """What an estimate needs of a request."""

    @property
    def endpoint(self) -> str:
        """Its path."""

    @property
    def raw(self) -> bytes:
        """Its body."""

    @property
    def only_text(self) -> bool:
        """Whether it is certain that nothing but text is in its messages."""

    @property
    def message_count(self) -> int:
        """How many messages it has, 1 if it has no list of them."""

    @property
    def max_output_tokens(self) -> int | None:
        """The caller's bound on output per choice."""

    @property
    def generated_count(self) -> int:
        """How many answers are generated."""


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
    which is not sent upstream. No count is above MOST_TOKENS.
    """
    if request.endpoint in _FREE:
        return Usage(estimated=True)
    if request.endpoint in _SOUND:
        size_bytes = len(request.raw)
        sound = sound_to_hold(request.endpoint, size_bytes, hold_output_tokens=hold_output_tokens)
        return bounded(sound)
    answers = 0 if request.endpoint in _ANSWERLESS else request.generated_count
    bound = request.max_output_tokens
    most = hold_output_tokens if bound is None else min(bound, MOST_OUTPUT_TOKENS)
    if request.endpoint == _PICTURES:
        most = max(most, PICTURE_TOKENS)
    return Usage(
        input_tokens=min(_input_tokens(request, HOLD_BYTES_PER_TOKEN), MOST_TOKENS),
        output_tokens=max(0, min(answers * most, MOST_TOKENS)),
        estimated=True,
    )


def guessed_usage(request: Asked, content_bytes: int) -> Usage:
    """Return the likely counts of a call that reported none: sent in full, answered so far.

    `content_bytes` are the UTF-8 bytes of text and tool arguments that came.
    """
    if request.endpoint in _FREE:
        return Usage(estimated=True)
    if request.endpoint in _SOUND:
        return likely_sound(request.endpoint, len(request.raw))
    output = 0 if request.endpoint in _ANSWERLESS else -(-content_bytes // TYPICAL_BYTES_PER_TOKEN)
    drawn = 0
    if request.endpoint == _PICTURES and content_bytes:
        output = drawn = request.generated_count * PICTURE_TOKENS  # base64 is no text
    return Usage(
        input_tokens=_input_tokens(request, TYPICAL_BYTES_PER_TOKEN),
        output_tokens=output,
        output_image_tokens=drawn,
        estimated=True,
    )


def known_usage(
    request: Asked, told: Usage | None, content_bytes: int, *, service_tier: str | None = None
) -> Usage:
    """Return what was used: the counts that were told, and a flagged guess of what was not.

    An estimated count knows the input and perhaps not all of the output: a cut stream's head. What
    asks a model in words has an input: servers that had it in a cache of theirs may count none.
    Less than none is no count. `service_tier` was told apart from the counts.
    """
    usage = _known(request, told, content_bytes)
    if service_tier is None or usage.service_tier is not None:
        return usage
    return msgspec.structs.replace(usage, service_tier=service_tier)


def _known(request: Asked, told: Usage | None, content_bytes: int) -> Usage:
    if told is None:
        return guessed_usage(request, content_bytes)
    if request.endpoint not in _IN_WORDS or (told.input_tokens > 0 and not told.estimated):
        return told
    guess = guessed_usage(request, content_bytes if told.estimated else 0)
    return msgspec.structs.replace(
        told,
        input_tokens=told.input_tokens if told.input_tokens > 0 else guess.input_tokens,
        output_tokens=max(told.output_tokens, guess.output_tokens),
        estimated=True,
    )


def counted_tokens(request: Asked) -> int:
    """Return the likely tokens of a question, for callers that only want to know them."""
    return _input_tokens(request, TYPICAL_BYTES_PER_TOKEN)


def _input_tokens(request: Asked, bytes_per_token: int) -> int:
    media_bytes = media_tokens = 0
    if not request.only_text:
        media_bytes, media_tokens = _MEDIA.get(request.endpoint, _media)(request.raw)
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
    told = [message.content for message in messages if isinstance(message.content, list)]
    return _added_up(_part_media(part) for parts in told for part in parts)


def _added_up(found: Iterable[tuple[int, int]]) -> tuple[int, int]:
    size_bytes = tokens = 0
    for part_bytes, part_tokens in found:
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


class _Source(msgspec.Struct):
    type: Any = None
    data: Any = None
    url: Any = None


class _Block(msgspec.Struct):
    type: Any = None
    source: "_Source | str | None" = None
    content: "list[_Block] | str | dict[str, Any] | None" = None


class _Turn(msgspec.Struct):
    content: list[_Block] | str | None = None


class _Turns(msgspec.Struct):
    messages: list[_Turn] = []


_decode_turns = msgspec.json.Decoder(_Turns).decode


def _source_media(raw: bytes) -> tuple[int, int]:
    """Return the same of a body in Anthropic's words, whose tool results hold media, too."""
    if b'"source"' not in raw:
        return 0, 0
    try:
        turns = _decode_turns(raw).messages
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return 0, 0
    size_bytes = tokens = 0
    waiting = [block for turn in turns if isinstance(turn.content, list) for block in turn.content]
    while waiting:
        block = waiting.pop()
        if isinstance(block.content, list):
            waiting += block.content
        if isinstance(block.source, _Source) and block.source.type != "text":
            part_bytes = _length(block.source.data) + _length(block.source.url)
            size_bytes += part_bytes
            is_image = block.type == "image"
            tokens += IMAGE_TOKENS if is_image else -(-part_bytes // MEDIA_BYTES_PER_TOKEN)
    return size_bytes, tokens


class _Shown(msgspec.Struct):
    type: Any = None
    image_url: Any = None
    file_data: Any = None
    input_audio: Any = None


class _Item(msgspec.Struct):
    type: Any = None
    content: list[_Shown] | str | None = None
    output: list[_Shown] | _Shown | str | None = None
    result: Any = None


class _Asked(msgspec.Struct):
    input: list[_Item] | str | None = None


_decode_items = msgspec.json.Decoder(_Asked).decode
_may_show = re.compile(
    rb'"(?:input_image|image_url|file_data|input_audio|image_generation_call)"'
).search


def _shown_media(raw: bytes) -> tuple[int, int]:
    """Return the same of a body in the words of Responses, whose tools' outputs hold media, too."""
    if _may_show(raw) is None:
        return 0, 0
    try:
        items = _decode_items(raw).input
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return 0, 0
    if not isinstance(items, list):
        return 0, 0
    return _added_up(found for item in items for found in _item_media(item))


def _item_media(item: _Item) -> Iterator[tuple[int, int]]:
    if item.type == "image_generation_call":
        yield _length(item.result), IMAGE_TOKENS
    if isinstance(item.content, list):
        yield from map(_shown, item.content)
    if isinstance(item.output, list):
        yield from map(_shown, item.output)
    elif isinstance(item.output, _Shown):  # what was on a screen
        yield _shown(item.output)


def _shown(part: _Shown) -> tuple[int, int]:
    if part.type == "input_image" or part.image_url is not None:
        return _length(part.image_url), IMAGE_TOKENS
    sound = part.input_audio.get("data") if isinstance(part.input_audio, dict) else None
    size_bytes = _length(part.file_data) + _length(sound)
    return size_bytes, -(-size_bytes // MEDIA_BYTES_PER_TOKEN)


_MEDIA = {
    "/v1/messages": _source_media,
    "/v1/messages/count_tokens": _source_media,
    "/v1/responses": _shown_media,
}
"""How media are found in bodies that are not in OpenAI's words."""
