"""Relaying OpenAI's Responses: only the model and the operator's params change on the way.

What leaves is canonical: an `event:` and a `data:` line per event, LF, no comments. The last event
is held back until `closing`, so that it can carry the cost.
"""

from collections.abc import Iterable, Mapping

import msgspec
from typing_extensions import override

from shared.chat.usage import Usage
from shared.errors import UpstreamError
from shared.providers.decoding import malformed
from shared.providers.dialects import openai_errors
from shared.providers.dialects.openai_errors import body_of, error_inside, read_error
from shared.providers.dialects.openai_stream import UNREADABLE
from shared.providers.dialects.responses_proof import MARK
from shared.providers.dialects.responses_usage import searches_in, usage_of
from shared.providers.dialects.sse import SseEvent
from shared.providers.dialects.sse_relay import EventRelay
from shared.providers.exchange import HttpRequest, HttpResponse, Reply
from shared.providers.head import refuse_body, refuse_stream

_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_input = msgspec.json.Decoder(list[msgspec.Raw]).decode
_MARKED = MARK.encode()

_NULL = msgspec.Raw(b"null")
_OURS = frozenset({"store", "previous_response_id"})
"""What the gateway does itself, so that nothing is lost where a vendor cannot."""

CHAT_WORDS = frozenset({
    "stop", "seed", "n", "presence_penalty", "frequency_penalty", "logit_bias", "logprobs",
    "response_format", "stream_options", "modalities", "prediction", "audio", "web_search_options",
})  # fmt: skip
"""Fields of chat that Responses refuse."""

_FINISHES = {"max_output_tokens": "length", "content_filter": "content_filter"}
_UNDECIDED = frozenset({None, "", "auto"})
"""What stands for a tier before there is one."""
_ENDINGS = frozenset({"response.completed", "response.incomplete"})


class _Reason(msgspec.Struct, gc=False):
    reason: str | None = None


class _Response(msgspec.Struct, gc=False):
    id: str
    status: str | None = None
    model: str | None = None
    error: object = None
    incomplete_details: _Reason | None = None
    usage: object = None
    service_tier: str | None = None
    output: msgspec.Raw = msgspec.Raw()

    def counts(self, told_tier: str | None = None) -> Usage | None:
        """Return what was used, in the tier it names, else in the one that was told before."""
        tier = self.service_tier or told_tier
        return usage_of(self.usage, tier, web_searches=searches_in(self.output))

    @property
    def finish_reason(self) -> str | None:
        """Why it ended, in chat's words."""
        if self.status == "completed":
            return "stop"
        cut = self.incomplete_details
        return None if cut is None else _FINISHES.get(cut.reason or "", "stop")


class _Item(msgspec.Struct, gc=False):
    type: str = ""


class _Thought(msgspec.Struct, gc=False):
    type: object = None
    id: object = None
    encrypted_content: object = None


class _Event(msgspec.Struct, gc=False):
    type: str = ""
    delta: object = None
    item: _Item | None = None
    response: _Response | None = None
    error: object = None


_decode_response = msgspec.json.Decoder(_Response).decode
_decode_thought = msgspec.json.Decoder(_Thought).decode
_decode_event = msgspec.json.Decoder(_Event).decode


def rewrite(
    raw: bytes,
    *,
    model: str,
    params: Mapping[str, object],
    lacks: Iterable[str] = (),
    expanded: bool = False,
) -> tuple[bytes, tuple[str, ...]]:
    """Return the caller's body with the upstream model's name, and which fields it has lost.

    All else goes byte for byte. `params` are the operator's, in chat's words: they fill in what the
    caller left out. `lacks` are fields that the vendor refuses. What an `expanded` body goes on
    from stands in its input, so the provider is not asked for it; and it is not shown the proofs of
    others' thoughts.
    """
    fields = _decode_fields(raw)
    for name, value in _in_words_of_responses(params).items():
        fields.setdefault(name, msgspec.Raw(msgspec.json.encode(value)))
    fields["model"] = msgspec.Raw(msgspec.json.encode(model))
    if expanded:
        fields.pop("previous_response_id", None)
    lost = [name for name in lacks if fields.pop(name, _NULL) != _NULL and name not in _OURS]
    if expanded or _MARKED in raw:
        _without_foreign_thoughts(fields)
    return msgspec.json.encode(fields), tuple(lost)


def _without_foreign_thoughts(fields: dict[str, msgspec.Raw]) -> None:
    """Leave out thoughts with the proof of others, and those with no proof at all."""
    if bytes(memoryview(fields["input"])[:1]) != b"[":
        return
    items = _decode_input(fields["input"])
    own = [item for item in items if _MARKED not in bytes(item) and not _is_unproven(item)]
    if len(own) < len(items):
        fields["input"] = msgspec.Raw(msgspec.json.encode(own))


def _is_unproven(item: msgspec.Raw) -> bool:
    if b'"reasoning"' not in bytes(item):
        return False
    thought = _decode_thought(item)
    return thought.type == "reasoning" and not (thought.id or thought.encrypted_content)


def _in_words_of_responses(params: Mapping[str, object]) -> dict[str, object]:
    words: dict[str, object] = {}
    for name, value in params.items():
        match name:
            case "max_tokens" | "max_completion_tokens":
                words["max_output_tokens"] = value
            case "reasoning_effort":
                words["reasoning"] = {"effort": value}
            case "verbosity":
                words["text"] = {"verbosity": value}
            case _ if name not in CHAT_WORDS:
                words[name] = value
            case _:
                pass
    return words


class ResponsesRelayExchange:
    """One attempt against a vendor that has Responses of its own."""

    def __init__(
        self, *, request: HttpRequest, secret: str | None = None, dropped: tuple[str, ...] = ()
    ) -> None:
        self.request = request
        self.dropped = dropped
        self._secret = secret

    def read(self, response: HttpResponse) -> Reply:
        """Return the answer's bytes as they came.

        Raises:
            UpstreamError: MALFORMED when it is no response, or why the provider failed.
        """
        refused = refuse_body(response.headers)
        if refused is not None:
            raise refused
        try:
            answer = _decode_response(response.body)
        except UNREADABLE as error:
            body = read_error(response.body)
            if body.code or body.type or body.status:
                raise error_inside(body, secret=self._secret) from error
            raise malformed("The provider's answer is not the JSON of a response.") from error
        if answer.status == "failed":
            raise error_inside(body_of(answer.error), secret=self._secret)
        if answer.finish_reason is None:
            raise malformed(f"The provider's response is not complete ({answer.status}).")
        return Reply(
            body=response.body,
            model=answer.model,
            usage=answer.counts(),
            finish_reason=answer.finish_reason,
        )

    def error_of(self, response: HttpResponse) -> UpstreamError:
        """Turn any other answer into a failure, decided by status and typed body."""
        return openai_errors.error_of(response, secret=self._secret)

    def refuse_head(self, status: int, headers: Mapping[str, str]) -> UpstreamError | None:
        """Refuse a stream at the door: None for a 2xx event stream, else why not."""
        if not 200 <= status < 300:  # noqa: PLR2004
            return self.error_of(HttpResponse(status=status, headers=headers, body=b""))
        return refuse_stream(headers)

    def scanner(self) -> "ResponsesScanner":
        """Return a fresh scanner for this exchange's stream."""
        return ResponsesScanner(self._secret)


class ResponsesScanner(EventRelay):
    """Passes on the events of a response; the last of them is held back until `closing`."""

    def __init__(self, secret: str | None = None) -> None:
        super().__init__(secret)
        self._last: tuple[str, bytes] | None = None

    @override
    def closing(self, cost_usd: str | None) -> bytes:
        """Return the last event, with what the response cost beside its usage."""
        if self._last is None:
            return b""
        name, data = self._last
        fields = _decode_fields(data)
        response = _decode_fields(fields["response"])
        # A number with all its digits: the text is a plain decimal.
        response["sluiceway"] = msgspec.Raw(b'{"cost_usd":%b}' % (cost_usd or "null").encode())
        fields["response"] = msgspec.Raw(msgspec.json.encode(response))
        return _written(name, msgspec.json.encode(fields))

    @override
    def _take(self, event: SseEvent) -> bytes:
        if event.data.startswith(b"[DONE]"):
            return b""
        try:
            read = _decode_event(event.data)
        except UNREADABLE as error:
            raise malformed("The provider's stream holds an event that is none.") from error
        name = read.type or event.name.decode("utf-8", "replace")
        if name == "error" or (read.error and not read.response):
            raise self._told(event.data)
        if name == "response.failed":
            failed = None if read.response is None else read.response.error
            raise error_inside(body_of(failed), secret=self._secret)
        if name in _ENDINGS and read.response is not None:
            self._learn(read.response)
            self.usage = read.response.counts(self.service_tier)
            self.finished = self._ended = True
            self._last = (name, event.data)
            return b""
        self._look_into(name, read)
        return _written(name, event.data)

    def _look_into(self, name: str, read: _Event) -> None:
        if read.response is not None:
            self._learn(read.response)
        if isinstance(read.delta, str) and name.endswith(".delta"):
            self._content_events += bool(read.delta)
            self.content_bytes += len(read.delta.encode())
        elif name == "response.output_item.added" and read.item is not None:
            self._content_events += read.item.type not in {"message", "reasoning"}

    def _learn(self, response: _Response) -> None:
        self.model = self.model or response.model
        if response.service_tier not in _UNDECIDED:
            self.service_tier = response.service_tier

    def _told(self, data: bytes) -> UpstreamError:
        body = read_error(data)
        if body.type == "error":  # the event's own type, not the error's
            body = msgspec.structs.replace(body, type=None)
        return error_inside(body, secret=self._secret)


def _written(name: str, data: bytes) -> bytes:
    lines = data.replace(b"\n", b"\ndata: ") if b"\n" in data else data
    return b"event: %b\ndata: %b\n\n" % (name.encode(), lines)
