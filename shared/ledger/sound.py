"""Counts of speech and transcripts, made up from sizes; whatever they are sold by is filled in."""

from shared.chat.usage import Usage

SPEECH = "/v1/audio/speech"
TRANSCRIPTIONS = "/v1/audio/transcriptions"

SPARSE_BYTES_PER_MS = 1
"""8 kbit/s, the lowest rate at which codecs still carry speech: a hold's sound is that long."""
TYPICAL_BYTES_PER_MS = 16
"""128 kbit/s, what people record at."""
HEARD_MS_PER_TOKEN = 100
"""OpenAI's transcribing models count ten tokens a second of what they hear."""
WRITTEN_MS_PER_TOKEN = 250
"""Speech of 150 words a minute, a little more than a token and a half to a word."""


def sound_to_hold(endpoint: str, size_bytes: int, *, hold_output_tokens: int) -> Usage:
    """Return what a call with a body of that size will hardly exceed."""
    if endpoint == SPEECH:
        return Usage(
            input_tokens=size_bytes,
            input_characters=size_bytes,
            output_tokens=max(hold_output_tokens, 2 * size_bytes),
            estimated=True,
        )
    length_ms = size_bytes // SPARSE_BYTES_PER_MS
    return _heard(
        length_ms, output_tokens=max(hold_output_tokens, length_ms // WRITTEN_MS_PER_TOKEN)
    )


def likely_sound(endpoint: str, size_bytes: int) -> Usage:
    """Return the likely counts of a call with a body of that size that reported none."""
    if endpoint == SPEECH:
        return Usage(input_characters=size_bytes, input_tokens=size_bytes // 4, estimated=True)
    length_ms = size_bytes // TYPICAL_BYTES_PER_MS
    return _heard(length_ms, output_tokens=length_ms // WRITTEN_MS_PER_TOKEN)


def _heard(length_ms: int, *, output_tokens: int) -> Usage:
    tokens = -(-length_ms // HEARD_MS_PER_TOKEN)
    return Usage(
        input_tokens=tokens,
        input_audio_tokens=tokens,
        input_audio_ms=length_ms,
        output_tokens=output_tokens,
        estimated=True,
    )
