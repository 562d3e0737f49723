"""Relaying OpenAI's dialect: only the model and the operator's params change on the way."""

from collections.abc import Mapping

import msgspec
from typing_extensions import override

from shared.chat.usage import Usage
from shared.errors import FailureKind, UpstreamError
from shared.providers.dialects import openai_errors
from shared.providers.dialects.openai_embeddings import in_asked_form
from shared.providers.dialects.openai_stream import FAILED_FINISHES, UNREADABLE, OpenAIScanner
from shared.providers.dialects.openai_usage import WireUsage, usage_from, usage_in, usage_of_wire
from shared.providers.exchange import HttpRequest, HttpResponse, Reply
from shared.providers.head import refuse_body, refuse_stream

_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_VECTORS = frozenset({"/v1/embeddings"})
"""Endpoints that answer with `data` instead of `choices`."""


def rewrite(
    raw: bytes, *, model: str, params: Mapping[str, object], force_stream_usage: bool
) -> bytes:
    """Return the caller's body with the upstream model's name; all else byte for byte.

    `params` are the operator's: they fill in what the caller left out. `force_stream_usage` asks
    for the usage chunk and keeps the caller's other stream options.
    """
    fields = _decode_fields(raw)
    for name, value in params.items():
        if name not in fields:
            fields[name] = _raw(value)
    fields["model"] = _raw(model)
    if force_stream_usage:
        options = msgspec.json.decode(fields.get("stream_options", b"null"))
        kept = options if isinstance(options, dict) else {}
        fields["stream_options"] = _raw({**kept, "include_usage": True})
    return msgspec.json.encode(fields)


class _Choice(msgspec.Struct, gc=False):
    finish_reason: str | None = None


class _Answer(msgspec.Struct):
    model: object = None
    choices: list[_Choice] | None = None
    data: msgspec.Raw = msgspec.Raw()
    usage: WireUsage | None = None
    error: object = None

    def counts(self) -> Usage | None:
        """Return what was used."""
        return usage_of_wire(self.usage)


class _OddAnswer(_Answer):
    """The same with the usage in any form and place."""

    usage: object = None  # type: ignore[assignment]  # read loosely
    x_groq: dict[str, object] | None = None

    @override
    def counts(self) -> Usage | None:
        return usage_from(usage_in({"usage": self.usage, "x_groq": self.x_groq}))


_decode_usual = msgspec.json.Decoder(_Answer).decode
_decode_odd = msgspec.json.Decoder(_OddAnswer).decode


def _decode_answer(body: bytes) -> _Answer:
    """Decode the usual form at once, and what is not quite it with patience."""
    try:
        answer = _decode_usual(body)
    except msgspec.ValidationError:
        return _decode_odd(body)
    return _decode_odd(body) if answer.usage is None else answer


def usage_of(body: bytes) -> Usage | None:
    """Return the usage of a whole answer, None when it has none or is not JSON."""
    try:
        return _decode_answer(body).counts()
    except UNREADABLE:
        return None


class RelayExchange:
    """One attempt against a target that speaks OpenAI's dialect, asked in OpenAI's dialect."""

    def __init__(
        self,
        *,
        request: HttpRequest,
        endpoint: str,
        include_usage: bool = False,
        usage_forced: bool = False,
        encoding_format: str | None = None,
        secret: str | None = None,
    ) -> None:
        self.request = request
        self.dropped: tuple[str, ...] = ()
        self._encoding_format = encoding_format
        self._endpoint = endpoint
        self._include_usage = include_usage
        self._usage_forced = usage_forced
        self._secret = secret

    def read(self, response: HttpResponse) -> Reply:
        """Return the answer's bytes as they came, vectors in the form that was asked for.

        Raises:
            UpstreamError: MALFORMED when it is not a JSON answer, or what its `error` says.
        """
        refused = refuse_body(response.headers)
        if refused is not None:
            raise refused
        try:
            answer = _decode_answer(response.body)
        except UNREADABLE as error:
            raise _malformed("The provider's answer is not the JSON of an answer.") from error
        if answer.error:
            body = openai_errors.body_of(answer.error)
            raise openai_errors.error_inside(body, secret=self._secret)
        return Reply(
            body=self._body(response.body),
            model=answer.model if isinstance(answer.model, str) and answer.model else None,
            usage=answer.counts(),
            finish_reason=self._finish_reason(answer),
        )

    def error_of(self, response: HttpResponse) -> UpstreamError:
        """Turn any other answer into a failure, decided by status and typed body."""
        return openai_errors.error_of(response, secret=self._secret)

    def refuse_head(self, status: int, headers: Mapping[str, str]) -> UpstreamError | None:
        """Refuse a stream at the door: None for a 2xx event stream, else why not."""
        if not 200 <= status < 300:  # noqa: PLR2004
            return self.error_of(HttpResponse(status=status, headers=headers, body=b""))
        return refuse_stream(headers)

    def scanner(self) -> OpenAIScanner:
        """Return a fresh scanner for this exchange's stream."""
        return OpenAIScanner(
            include_usage=self._include_usage,
            usage_forced=self._usage_forced,
            secret=self._secret,
        )

    def _body(self, body: bytes) -> bytes:
        if self._endpoint not in _VECTORS:
            return body
        try:
            return in_asked_form(body, encoding_format=self._encoding_format)
        except (ValueError, *UNREADABLE) as error:
            raise _malformed("The provider's vectors cannot be read.") from error

    def _finish_reason(self, answer: _Answer) -> str | None:
        if self._endpoint in _VECTORS:
            if not answer.data:
                raise _malformed("The provider's answer has no `data`.")
            return None
        if not answer.choices:
            raise _malformed("The provider's answer has no `choices`.")
        reason = answer.choices[0].finish_reason
        if reason in FAILED_FINISHES:
            raise UpstreamError(
                FailureKind.SERVER_ERROR, f"The provider broke off its answer ({reason})."
            )
        return reason


def _raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def _malformed(message: str) -> UpstreamError:
    return UpstreamError(FailureKind.MALFORMED, message)
