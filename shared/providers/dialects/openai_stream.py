"""Relaying OpenAI's chunk stream: bytes go on as they came, and only what decides is looked at.

What leaves is canonical: one `data:` line per event, LF, no comments, no event names. What came
so already (nearly always) is passed on as the same bytes. Held back until `closing`: chunks that
carry nothing but usage, and the end mark.
"""

from typing import Any

import msgspec

from shared.chat.usage import Usage
from shared.errors import FailureKind, UpstreamError
from shared.providers.dialects.openai_errors import body_of, error_inside, read_error
from shared.providers.dialects.openai_usage import named_tier, usage_from
from shared.providers.dialects.sse import CR, EventTooLarge, SseParser
from shared.providers.exchange import Scan

DONE = b"data: [DONE]\n\n"
_DATA = b"data: "
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises on hostile JSON."""

FAILED_FINISHES = frozenset({"error", "network_error", "insufficient_system_resource"})
"""Finish reasons by which vendors (OpenRouter, Z.ai, DeepSeek) mean that the answer broke."""

_NULL_USAGES = (b',"usage":null', b', "usage": null')
_NULL = msgspec.Raw(b"null")
_HEAD = ("id", "object", "created", "model")
"""What all chunks of a stream have in common."""
_NOTHING = Scan()
_FINISHED = Scan(finished=True)
_ENDED = Scan(finished=True, ended=True)


class _Delta(msgspec.Struct, gc=False):
    role: Any = None
    content: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    refusal: Any = None
    tool_calls: Any = None
    function_call: Any = None
    audio: Any = None


class _Choice(msgspec.Struct, gc=False):
    index: int | str | None = 0
    delta: _Delta | None = None
    message: Any = None
    text: Any = None
    finish_reason: str | None = None


class _VendorPart(msgspec.Struct, gc=False):
    usage: Any = None


class _Chunk(msgspec.Struct, gc=False):
    model: Any = None
    choices: list[_Choice] | None = None
    usage: Any = None
    service_tier: Any = None
    error: Any = None
    x_groq: _VendorPart | None = None


_decode = msgspec.json.Decoder(_Chunk).decode
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode


class OpenAIScanner:
    """Fed the bytes of one chunk stream, however they are cut; keeps what has been learnt.

    `include_usage` is what the caller asked. `usage_forced` means that only we asked the provider
    for usage, so that the `"usage": null` of its chunks is taken out again.
    """

    def __init__(
        self, *, include_usage: bool = False, usage_forced: bool = False, secret: str | None = None
    ) -> None:
        self.model: str | None = None
        self.usage: Usage | None = None
        self.finished = False
        self.content_bytes = 0
        self.service_tier: str | None = None
        self._include_usage = include_usage
        self._usage_forced = usage_forced
        self._secret = secret
        self._parser = SseParser()
        self._between = True
        self._done: dict[int | str | None, bool] = {}
        self._finished_empty: set[int | str | None] = set()
        self._usage_chunk: bytes | None = None
        self._first_chunk = b""
        self._content_events = 0
        self._repeats_role = False
        self._ended = False
        self._error: UpstreamError | None = None

    def feed(self, chunk: bytes) -> Scan:
        """Take the next bytes. After the end mark or an error nothing more is looked at."""
        if self._ended or self._error is not None:
            return _ENDED if self._error is None else Scan(error=self._error)
        if (
            chunk.startswith(b"data: ")
            and chunk.endswith(b"\n\n")
            and self._between
            and CR not in chunk
        ):
            count = chunk.count(b"\n\ndata: ") + 1
            if chunk.count(b"\n") == 2 * count:
                if count == 1 and len(chunk) > len(_DATA) + 2:
                    return self._scan(self._take(chunk[6:-2], chunk))
                return self._scan(b"".join(map(self._canonical, chunk[6:-2].split(b"\n\ndata: "))))
        try:
            events = self._parser.feed(chunk)
            self._between = self._parser.idle
        except EventTooLarge as error:
            return self._fail(_malformed(f"The provider's stream is unreadable: {error}."))
        out = b"".join([self._event(event.name, event.data) for event in events])
        return self._scan(out)

    def finish(self) -> Scan:
        """Take the orderly end of the connection: `error` is set unless the answer was whole."""
        out = b""
        if not self._ended and self._error is None:
            out = b"".join([self._event(e.name, e.data) for e in self._parser.finish()])
        if self._error is None and not self._is_whole():
            return self._fail(_malformed("The provider's stream ended before its answer did."))
        return self._scan(out)

    def closing(self, cost_usd: str | None) -> bytes:
        """Return the usage chunk, if asked and anything is known, and the end mark.

        `cost_usd` is a plain decimal such as `0.00123`, None when the price is unknown. It is told
        without counts, too: there is an estimate where the provider told none.
        """
        if not self._include_usage:
            return DONE
        if self._usage_chunk is not None:
            fields = _decode_fields(self._usage_chunk)
            if bytes(fields.get("usage", b"null")) == b"null":
                fields["usage"] = _decode_fields(fields["x_groq"])["usage"]
        elif cost_usd is not None and self._first_chunk:
            first = _decode_fields(self._first_chunk)
            fields = {name: first[name] for name in _HEAD if name in first}
            fields["usage"] = _NULL
        else:
            return DONE
        fields["choices"] = msgspec.Raw(b"[]")
        # A number with all its digits: the text is a plain decimal.
        fields["sluiceway"] = msgspec.Raw(b'{"cost_usd":%b}' % (cost_usd or "null").encode())
        return _event_of(fields) + DONE

    def _scan(self, out: bytes) -> Scan:
        content_events, self._content_events = self._content_events, 0
        if not out and not content_events and not self._ended and self._error is None:
            return _FINISHED if self.finished else _NOTHING
        return Scan(
            out=out,
            content_events=content_events,
            finished=self.finished,
            ended=self._ended,
            error=self._error,
        )

    def _fail(self, error: UpstreamError) -> Scan:
        self._error = error
        return self._scan(b"")

    def _canonical(self, data: bytes) -> bytes:
        if not data or self._ended or self._error is not None:
            return b""
        return self._take(data, _DATA + data + b"\n\n")

    def _event(self, name: bytes, data: bytes) -> bytes:
        if self._ended or self._error is not None:
            return b""
        if name == b"error":
            self._error = error_inside(read_error(data), secret=self._secret)
            return b""
        lines = data.replace(b"\n", b"\ndata: ") if b"\n" in data else data
        return self._take(data, b"data: " + lines + b"\n\n")

    def _take(self, payload: bytes, event: bytes) -> bytes:
        """Learn from one event and return what of it goes on."""
        if payload.startswith(b"[DONE]"):
            self._ended = True
            if not self._is_whole():
                self._error = _malformed("The provider ended its stream without a finish reason.")
            return b""
        try:
            chunk = _decode(payload)
        except UNREADABLE:
            whole = self._parser.halves.whole(payload)
            if whole != payload:
                return self._take(whole, _DATA + whole + b"\n\n")
            self._error = _malformed("The provider's stream holds an event that is not a chunk.")
            return b""
        self._learn(chunk)
        if self._error is not None:
            return b""
        if chunk.choices and not self._first_chunk:
            self._first_chunk = payload
        if self._repeats_role:
            self._repeats_role = False
            event = _without_role(payload)
            payload = event[len(_DATA) : -2]
        usage = chunk.usage
        if usage is None and chunk.x_groq is not None:
            usage = chunk.x_groq.usage
        if usage is not None:
            found = usage_from(usage, self.service_tier)
            return self._keep_usage(found, payload, alone=not chunk.choices)
        return without_null_usage(event) if self._usage_forced else event

    def _learn(self, chunk: _Chunk) -> None:
        if chunk.error:
            self._error = error_inside(body_of(chunk.error), secret=self._secret)
            return
        if self.model is None and isinstance(chunk.model, str):
            self.model = chunk.model or None
        if chunk.service_tier is not None:
            self.service_tier = named_tier(chunk.service_tier) or self.service_tier
        if chunk.choices:
            self._look_into(chunk.choices)

    def _look_into(self, choices: list[_Choice]) -> None:
        content_bytes = 0
        for choice in choices:
            if self._is_whole_answer(choice):
                self._error = _malformed("The provider answered a stream with a whole answer.")
                return
            said_bytes = 0
            if choice.delta is not None:
                said_bytes = _content_bytes(choice.delta)
                if choice.delta.role is not None and choice.index in self._done:
                    # OpenAI's SDK helper would make "assistantassistant" of it.
                    self._repeats_role = True
            if choice.text:
                said_bytes += length_bytes(choice.text)
            content_bytes += said_bytes
            if choice.finish_reason is not None:
                self._close_choice(choice.index, choice.finish_reason)
            elif choice.index not in self._done:
                self._done[choice.index] = False
                self.finished = False
            elif said_bytes:
                self._finished_empty.discard(choice.index)
        if content_bytes:
            self._content_events += 1
            self.content_bytes += content_bytes

    def _is_whole_answer(self, choice: _Choice) -> bool:
        """Return whether a choice opens as those of `chat.completion` do: no SDK could read it."""
        return (
            choice.message is not None and choice.delta is None and choice.index not in self._done
        )

    def _close_choice(self, index: int | str | None, reason: str) -> None:
        if reason in FAILED_FINISHES:
            self._error = UpstreamError(
                FailureKind.SERVER_ERROR, f"The provider broke off its answer ({reason})."
            )
        if reason:
            self._done[index] = True
            self.finished = all(self._done.values())
        else:
            # Some servers give "" on every chunk, some only at the end: the end mark decides. Words
            # behind it, with no finish reason of their own, show that it meant nothing.
            self._done.setdefault(index, False)
            self._finished_empty.add(index)

    def _keep_usage(self, found: Usage | None, payload: bytes, *, alone: bool) -> bytes:
        """Keep counts, and return what of their chunk goes on: nothing where they came alone."""
        if found is not None:
            self.usage = found
            self._usage_chunk = payload
        if alone:
            return b""
        # Told once, in the last chunk: there are clients that add up whatever they see.
        fields = _decode_fields(payload)
        fields.pop("usage", None)
        if self._include_usage:
            fields["usage"] = _NULL
        return _event_of(fields)

    def _is_whole(self) -> bool:
        if not self._done:
            return False
        return all(
            done or (self._ended and index in self._finished_empty)
            for index, done in self._done.items()
        )


def _event_of(fields: object) -> bytes:
    return _DATA + msgspec.json.encode(fields) + b"\n\n"


def _without_role(payload: bytes) -> bytes:
    """Return the event with no role in its deltas."""
    fields: dict[str, Any] = dict(_decode_fields(payload))
    choices = [_decode_fields(choice) for choice in _decode_list(fields["choices"])]
    for choice in choices:
        if bytes(choice.get("delta", b"null")) == b"null":
            continue
        delta = _decode_fields(choice["delta"])
        delta.pop("role", None)
        choice["delta"] = msgspec.Raw(msgspec.json.encode(delta))
    fields["choices"] = choices
    return _event_of(fields)


def without_null_usage(event: bytes) -> bytes:
    """Return an event without the `usage` that only we have asked for, where it says nothing."""
    for null_usage in _NULL_USAGES:
        # Cannot hit text: quotes inside a JSON string are escaped.
        event = event.replace(null_usage, b"")
    return event


def _content_bytes(delta: _Delta) -> int:
    found = 0
    if delta.content:
        found = length_bytes(delta.content)
    if delta.tool_calls:
        found += _tool_bytes(delta.tool_calls)
    if delta.reasoning_content:
        found += length_bytes(delta.reasoning_content)
    elif delta.reasoning:
        found += length_bytes(delta.reasoning)
    if delta.refusal:
        found += length_bytes(delta.refusal)
    if delta.function_call:
        found += _tool_bytes([{"function": delta.function_call}])
    if delta.audio:
        found += 1
    return found


def length_bytes(text: object) -> int:
    """Return the UTF-8 bytes of a text, of anything else those of its JSON."""
    if isinstance(text, str):
        return len(text) if text.isascii() else len(text.encode())
    return len(msgspec.json.encode(text))


def _tool_bytes(calls: object) -> int:
    """Return the bytes of names and arguments, at least one per call."""
    found = 0
    for call in calls if isinstance(calls, list) else [calls]:
        part = (call.get("function") or call.get("custom")) if isinstance(call, dict) else None
        texts = part.values() if isinstance(part, dict) else ()
        found += max(1, sum(length_bytes(text) for text in texts if isinstance(text, str)))
    return found


def _malformed(message: str) -> UpstreamError:
    return UpstreamError(FailureKind.MALFORMED, message)
