"""What is passed to providers that have it: moderation, pictures, speech, transcripts, reranking.

Nothing of it is translated. Of a question the model changes, of an answer nothing; what was used is
read from it, or from the question where the provider sells by that.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from typing_extensions import override

from shared.chat.usage import Usage
from shared.errors import UpstreamError
from shared.providers.decoding import malformed
from shared.providers.dialects.multipart import read_form, with_fields
from shared.providers.dialects.openai_errors import (
    body_of,
    error_inside,
    error_of,
    read_error,
)
from shared.providers.dialects.openai_usage import reported_nanousd
from shared.providers.dialects.sse import SseEvent, SseParser
from shared.providers.dialects.sse_relay import EventRelay
from shared.providers.exchange import SUCCESS, HttpRequest, HttpResponse, Reply
from shared.providers.head import refuse_body, refuse_stream

MODERATIONS = "/v1/moderations"
IMAGES = "/v1/images/generations"
SPEECH = "/v1/audio/speech"
TRANSCRIPTIONS = "/v1/audio/transcriptions"
RERANK = "/v1/rerank"
FORM = "multipart/form-data"

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_ENDS = (".done", ".completed")
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode = msgspec.json.Decoder(dict[str, Any]).decode


def rewritten(raw: bytes, *, content_type: str, model: str, params: Mapping[str, object]) -> bytes:
    """Return the caller's body with the upstream model's name, JSON or a form.

    `params` are the operator's: they fill in what the caller left out.

    Raises:
        InvalidRequest: the form is broken.
    """
    if content_type.lower().startswith(FORM):
        form = read_form(content_type, raw)
        new = {name: _plain(value) for name, value in params.items() if form.part(name) is None}
        return with_fields(raw, form, {**new, "model": model})
    fields: dict[str, object] = {**params, **_decode_fields(raw)}
    return msgspec.json.encode({**fields, "model": model})


class PassedExchange:
    """One attempt against a provider that has this endpoint."""

    def __init__(
        self,
        *,
        request: HttpRequest,
        endpoint: str,
        asked: bytes = b"",
        secret: str | None = None,
    ) -> None:
        self.request = request
        self.dropped: tuple[str, ...] = ()
        self._endpoint = endpoint
        self._asked = asked
        self._secret = secret

    def read(self, response: HttpResponse) -> Reply:
        """Return the answer's bytes as they came, with their type.

        Raises:
            UpstreamError: MALFORMED when it is a web page or not the kind of answer that was asked
                for; or what an `error` inside says.
        """
        refused = refuse_body(response.headers)
        if refused is not None:
            raise refused
        kind = response.headers.get("content-type", "application/json")
        if self._endpoint == SPEECH and "json" not in kind:
            return self._reply(response.body, kind, {})
        if self._endpoint == TRANSCRIPTIONS and "json" not in kind:
            return self._reply(response.body, kind, {})
        try:
            answer = _decode(response.body)
        except UNREADABLE as error:
            raise malformed("The provider's answer is not the JSON of an answer.") from error
        if answer.get("error"):
            raise error_inside(body_of(answer["error"]), secret=self._secret)
        if self._endpoint == SPEECH:
            raise malformed("The provider answered with JSON instead of sound.")
        return self._reply(response.body, kind, answer)

    def error_of(self, response: HttpResponse) -> UpstreamError:
        """Turn any other answer into a failure, decided by status and typed body."""
        return error_of(response, secret=self._secret)

    def refuse_head(self, status: int, headers: Mapping[str, str]) -> UpstreamError | None:
        """Refuse a stream at the door: None for a 2xx event stream, else why not."""
        if status not in SUCCESS:
            return self.error_of(HttpResponse(status=status, headers=headers, body=b""))
        return refuse_stream(headers)

    def scanner(self) -> "EventScanner":
        """Return a fresh scanner for this exchange's stream."""
        return EventScanner(self._used, secret=self._secret)

    def _reply(self, body: bytes, kind: str, answer: Mapping[str, Any]) -> Reply:
        model = answer.get("model")
        return Reply(
            body=body,
            model=model if isinstance(model, str) and model else None,
            usage=self._used(answer),
            media_type=None if "json" in kind else kind,
        )

    def _used(self, answer: Mapping[str, Any]) -> Usage | None:
        """Return what was used; None where neither answer nor question tells."""
        found = counted(answer)
        if found is not None:
            return found
        if self._endpoint == SPEECH:
            return _spoken(_characters(self._asked))
        if self._endpoint == IMAGES:
            return Usage(estimated=True)  # sold by the piece, which no price here knows
        # Nobody charges for moderation; who sells reranking by the search counts no tokens.
        return Usage() if self._endpoint in {MODERATIONS, RERANK} else None


class EventScanner(EventRelay):
    """Passes on a stream of typed events; it is whole when one of them says that it is.

    Partial pictures, pieces of sound and of a transcript are content; the last event has the usage.
    """

    def __init__(
        self, used: Callable[[Mapping[str, Any]], Usage | None], *, secret: str | None = None
    ) -> None:
        super().__init__(secret, SseParser(limit_bytes=_EVENT_LIMIT_BYTES))
        self._used = used

    @override
    def closing(self, cost_usd: str | None) -> bytes:
        """Return the end mark, if the provider sent one; these events have no place for a cost."""
        return b"data: [DONE]\n\n" if self._ended else b""

    @override
    def _take(self, event: SseEvent) -> bytes:
        if event.data.startswith(b"[DONE]"):
            self._ended = True
            if not self.finished:
                raise malformed("The provider ended its stream before its answer.")
            return b""
        self._learn(event)
        name = b"event: %b\n" % event.name if event.name else b""
        data = event.data.replace(b"\n", b"\ndata: ")
        return b"%bdata: %b\n\n" % (name, data)

    def _learn(self, event: SseEvent) -> None:
        if event.name == b"error":
            raise error_inside(read_error(event.data), secret=self._secret)
        try:
            said = _decode(event.data)
        except UNREADABLE as error:
            raise malformed("The provider's stream holds an event that is not JSON.") from error
        if said.get("error"):
            raise error_inside(body_of(said["error"]), secret=self._secret)
        self._content_events += 1
        self.content_bytes += len(event.data)
        if str(said.get("type", "")).endswith(_ENDS):
            self.finished = True
            self.usage = self._used(said) or self.usage


_AGES_S = 1e9
"""More seconds than any recording has."""
_EVENT_LIMIT_BYTES = 16 * 1024 * 1024
"""A picture of 4096 pixels a side as base64."""


def counted(answer: Mapping[str, Any]) -> Usage | None:
    """Return the usage that an answer states: tokens by either name, or seconds of sound."""
    usage = answer.get("usage")
    if not isinstance(usage, Mapping):
        seconds = answer.get("duration")
        return Usage(input_audio_ms=_ms(seconds)) if _ms(seconds) else None
    if _ms(usage.get("seconds")):
        return Usage(input_audio_ms=_ms(usage["seconds"]))
    tokens_in = _count(usage, "input_tokens", "prompt_tokens")
    tokens_out = _count(usage, "output_tokens", "completion_tokens")
    if tokens_in is None and tokens_out is None:
        tokens_in = _count(usage, "total_tokens")
    reported = reported_nanousd(usage.get("cost"), usage.get("cost_in_usd_ticks"))
    if tokens_in is None and tokens_out is None:
        return None if reported is None else Usage(reported_nanousd=reported, estimated=True)
    inside = _part(usage, "input_tokens_details", "input_token_details")
    outside = _part(usage, "output_tokens_details", "output_token_details")
    before, after = tokens_in or 0, tokens_out or 0
    return Usage(
        input_tokens=before,
        output_tokens=after,
        input_audio_tokens=min(_count(inside, "audio_tokens") or 0, before),
        input_image_tokens=min(_count(inside, "image_tokens") or 0, before),
        output_image_tokens=min(_count(outside, "image_tokens") or 0, after),
        reported_nanousd=reported,
    )


def _spoken(characters: int) -> Usage:
    """Return what speech of so many characters comes to: some models count, some are sold by it.

    OpenAI's rule of thumb: four characters to a token of text; a minute of speech is some 900
    characters and 1,250 tokens of sound.
    """
    tokens = -(-characters * 1250 // 900)
    return Usage(
        input_tokens=-(-characters // 4),
        output_tokens=tokens,
        output_audio_tokens=tokens,
        input_characters=characters,
        estimated=True,
    )


def _characters(raw: bytes) -> int:
    try:
        text = _decode(raw).get("input")
    except UNREADABLE:
        return 0
    return len(text) if isinstance(text, str) else 0


def _part(usage: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    return next((usage[name] for name in names if isinstance(usage.get(name), Mapping)), {})


def _count(usage: Mapping[str, Any], *names: str) -> int | None:
    for name in names:
        found = usage.get(name)
        if isinstance(found, int | float) and not isinstance(found, bool) and found >= 0:
            return int(found)
    return None


def _ms(seconds: object) -> int:
    if (
        isinstance(seconds, bool)
        or not isinstance(seconds, int | float)
        or not 0 < seconds < _AGES_S
    ):
        return 0
    return round(seconds * 1000)


def _plain(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


ENDPOINTS = frozenset({MODERATIONS, IMAGES, SPEECH, TRANSCRIPTIONS, RERANK})
"""The paths that are passed."""
