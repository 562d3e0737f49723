"""The relay of a stream that is mended on its way: only what needs it is written anew."""

import re

import msgspec
from typing_extensions import override

from shared.providers.dialects.openai_mend import Json, Mender
from shared.providers.dialects.openai_sound import SoundChunk, sound_chunk
from shared.providers.dialects.openai_stream import (
    UNREADABLE,
    OpenAIScanner,
    length_bytes,
    without_null_usage,
)
from shared.providers.dialects.openai_usage import named_tier, usage_of_wire
from shared.providers.exchange import PlainScanner, Scan

MOST_ODD = 4
"""Chunks that were not sound; after so many nobody tries to prove it of this stream's others."""

_decode = msgspec.json.Decoder(dict[str, object]).decode

_PLAIN = re.compile(
    rb'"choices": *\[\{"index": *0, *"delta": *\{"content": *'
    rb'"(?!")([^"\\\x00-\x1f]*(?:\\.[^"\\\x00-\x1f]*)*)"\},'
    rb' *(?:"logprobs": *null, *)?"finish_reason": *null\}\](?:, *"usage": *null)?\}\n\n'
)
"""What follows the head of an event that holds words of the one choice, and nothing else."""

_is_ascii_text = re.compile(rb"[ !#-\[\]-~]+").fullmatch


class MendingScanner(OpenAIScanner, PlainScanner):
    """Relays a vendor that takes OpenAI's form lightly."""

    def __init__(
        self,
        mender: Mender,
        *,
        include_usage: bool = False,
        usage_forced: bool = False,
        secret: str | None = None,
    ) -> None:
        super().__init__(include_usage=include_usage, usage_forced=usage_forced, secret=secret)
        self._mender = mender
        self._odd_chunks = 0
        # The head of a plain event that needed nothing: the next with the same head needs nothing
        # either, and to read it whole would cost more than to relay it.
        self._sound_head = b""
        self._only_words = False
        # All of that holds of the next chunk, too: it begins an event, and nothing has gone wrong.
        self._flows = False
        # What stood around the words of the last plain event, and what goes on of its end.
        self._before = self._after = self._ending = b""

    @override
    def feed(self, chunk: bytes) -> Scan:
        """Take the next bytes; events of words that come whole are not read."""
        plain = self.plain(chunk)
        if plain is not None:
            return Scan(out=plain, content_events=chunk.count(b"\n\n"), finished=self.finished)
        scan = super().feed(chunk)
        self._flows = self._only_words and self._between and self._error is None
        return scan

    @override
    def plain(self, chunk: bytes) -> bytes | None:
        """Take events of words with what stood around the last ones, if the chunk is such alone."""
        before, after = self._before, self._after
        if not (self._flows and chunk.startswith(before) and chunk.endswith(after)):
            return None
        start, end = len(before), len(chunk) - len(after)
        if chunk.find(after, start) != end:
            return self._plain_ones(chunk)
        if not (_is_ascii_text(chunk, start, end) or (start < end and _is_text(chunk[start:end]))):
            return None
        self.content_bytes += end - start
        if self._ending is after:
            return chunk
        return chunk[:end] + self._ending

    def _plain_ones(self, chunk: bytes) -> bytes | None:
        """Take several events as `plain` does."""
        before, after, start = self._before, self._after, len(self._before)
        events = chunk.split(after)
        events.pop()  # what follows the last is nothing
        said_bytes = 0
        for event in events:
            if not (
                event.startswith(before)
                and (
                    _is_ascii_text(event, start) or (start < len(event) and _is_text(event[start:]))
                )
            ):
                return None
            said_bytes += len(event) - start
        self.content_bytes += said_bytes
        return chunk if self._ending is after else chunk.replace(after, self._ending)

    @override
    def _take(self, payload: bytes, event: bytes) -> bytes:
        """Learn from one event, as it should have come, and return what of it goes on."""
        head = self._sound_head
        if head and event.startswith(head) and (plain := _PLAIN.fullmatch(event, len(head))):
            if self._only_words and _is_written_out(plain[1]):
                return self._passed_on(plain[1], event)
            return super()._take(payload, event)
        self._sound_head = b""
        self._only_words = False
        if payload.startswith(b"[DONE]"):
            late = b"".join([self._written(chunk) for chunk in self._mender.ending()])
            return late + super()._take(payload, event)
        if self._odd_chunks < MOST_ODD:
            chunk = sound_chunk(payload)
            if chunk is not None and self._mender.takes(chunk):
                if chunk.opens() and self._done:  # by what the mender could not read
                    return super()._take(payload, event)
                return self._taken(chunk, payload, event)
            self._odd_chunks += 1
        try:
            fields = _decode(payload)
        except UNREADABLE:
            return super()._take(payload, event)
        mended = self._mender.chunk(fields)
        if mended is None:
            return b""
        if self._mender.changed:
            return self._written(mended)
        self._look_for_words(event)
        return super()._take(payload, event)

    def _taken(self, chunk: SoundChunk, payload: bytes, event: bytes) -> bytes:
        """Learn from a chunk that nothing is to be done with, and return what of it goes on."""
        if self.model is None:
            self.model = chunk.model
        if chunk.service_tier is not None:
            self.service_tier = named_tier(chunk.service_tier) or self.service_tier
        if chunk.choices:
            self._first_chunk = self._first_chunk or payload
            choice = chunk.choices[0]
            delta = choice.delta
            if choice.finish_reason is not None:
                self._close_choice(0, choice.finish_reason)
            elif 0 not in self._done:
                self._done[0] = self.finished = False
            said_bytes = 0
            for text in (delta.content, delta.reasoning_content, delta.refusal):
                if text:
                    said_bytes += length_bytes(text)
            if said_bytes:
                self._content_events += 1
                self.content_bytes += said_bytes
                self._finished_empty.discard(0)
                self._look_for_words(event)
        if chunk.usage is not None:
            found = usage_of_wire(chunk.usage, self.service_tier)
            return self._keep_usage(found, payload, alone=not chunk.choices)
        return without_null_usage(event) if self._usage_forced else event

    def _look_for_words(self, event: bytes) -> None:
        """Remember what stands around the words of an event, if there is nothing else in it."""
        start = event.find(b'"choices"')
        if start > 0 and (plain := _PLAIN.fullmatch(event, start)):
            self._sound_head = event[:start]
            # A count in the head is told of each chunk.
            self._only_words = b"usage" not in self._sound_head
            self._before, self._after = event[: plain.start(1)], event[plain.end(1) :]
            self._ending = without_null_usage(self._after) if self._usage_forced else self._after

    def _passed_on(self, words: bytes, event: bytes) -> bytes:
        """Count the words of a plain chunk, which is all there is to learn from it."""
        self._content_events += 1
        self.content_bytes += len(words)
        return without_null_usage(event) if self._usage_forced else event

    def _written(self, chunk: Json) -> bytes:
        payload = msgspec.json.encode(chunk)
        return super()._take(payload, b"data: " + payload + b"\n\n")


def _is_text(words: bytes) -> bool:
    """Return whether words that stand in a JSON string are for certain all of its text."""
    try:
        text = words.decode()
    except UnicodeDecodeError:
        return False
    # What is printable holds no control character.
    return '"' not in text and "\\" not in text and text.isprintable()


def _is_written_out(words: bytes) -> bool:
    """Return whether the bytes of a JSON string are those of its text."""
    if b"\\" in words:
        return False
    if words.isascii():
        return True
    try:
        words.decode()
    except UnicodeDecodeError:
        return False
    return True
