"""Relaying OpenAI's dialect: only the model and the operator's params change on the way."""

from collections.abc import Mapping
from typing import Any

import msgspec
from typing_extensions import override

from shared.chat.usage import Usage
from shared.clock import wall_ms
from shared.errors import FailureKind, UpstreamError
from shared.providers.dialects import openai_errors
from shared.providers.dialects.embeddings import other_width
from shared.providers.dialects.openai_draft import Draft, drafted
from shared.providers.dialects.openai_embeddings import first_width, in_asked_form, in_order
from shared.providers.dialects.openai_mend import Mender
from shared.providers.dialects.openai_mended import MendingScanner
from shared.providers.dialects.openai_sound import sound
from shared.providers.dialects.openai_stream import FAILED_FINISHES, UNREADABLE, OpenAIScanner
from shared.providers.dialects.openai_usage import WireUsage, usage_from, usage_in, usage_of_wire
from shared.providers.exchange import HttpRequest, HttpResponse, Reply
from shared.providers.head import refuse_body, refuse_stream

_decode_object = msgspec.json.Decoder(dict[str, object]).decode
_CHAT = "/v1/chat/completions"
_VECTORS = frozenset({"/v1/embeddings"})
"""Endpoints that answer with `data` instead of `choices`."""


def rewrite(
    raw: bytes, *, model: str, params: Mapping[str, object], force_stream_usage: bool
) -> bytes:
    """Return the caller's body with the upstream model's name; all else byte for byte.

    `params` are the operator's: they fill in what the caller left out. `force_stream_usage` asks
    for the usage chunk and keeps the caller's other stream options.
    """
    draft = drafted(raw, model=model, params=params)
    return written(draft, force_stream_usage=force_stream_usage)


def written(draft: Draft, *, force_stream_usage: bool) -> bytes:
    """Return a draft's bytes; `force_stream_usage` is that of `rewrite`."""
    if force_stream_usage:
        options = draft.read("stream_options")
        kept = options if isinstance(options, dict) else {}
        draft.body["stream_options"] = {**kept, "include_usage": True}
    return _encode(draft.body)


class _Message(msgspec.Struct, gc=False):
    content: str | list[Any] | None = None


class _Choice(msgspec.Struct, gc=False):
    message: _Message | None = None
    finish_reason: str | None = None


class _Answer(msgspec.Struct):
    model: object = None
    choices: list[_Choice] | None = None
    data: msgspec.Raw = msgspec.Raw()
    usage: WireUsage | None = None
    service_tier: object = None
    error: object = None

    def counts(self) -> Usage | None:
        """Return what was used."""
        return usage_of_wire(self.usage, self.service_tier)


class _OddAnswer(_Answer):
    """The same with the usage in any form and place."""

    usage: object = None  # type: ignore[assignment]  # read loosely
    x_groq: dict[str, object] | None = None

    @override
    def counts(self) -> Usage | None:
        usage = usage_in({"usage": self.usage, "x_groq": self.x_groq})
        return usage_from(usage, self.service_tier)


_encode = msgspec.json.Encoder().encode
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


class RelayExchange(msgspec.Struct, kw_only=True):
    """One attempt against a target that speaks OpenAI's dialect, asked in OpenAI's dialect.

    `dropped` are the caller's fields that were not sent. `names` are the tools' names that had to
    be changed, as sent, by the caller's; None for a vendor whose answers are passed on unread.
    `model` is the one that is asked. `inputs` is how many vectors must come, None for any number.
    """

    request: HttpRequest
    endpoint: str
    include_usage: bool = False
    usage_forced: bool = False
    encoding_format: str | None = None
    dimensions: int | None = None
    secret: str | None = None
    dropped: tuple[str, ...] = ()
    names: Mapping[str, str] | None = None
    model: str = ""
    inputs: int | None = None

    @override
    def __repr__(self) -> str:  # a struct's own would show the secret
        return f"<{type(self).__name__} {self.endpoint} {self.model}>"

    def read(self, response: HttpResponse) -> Reply:
        """Return the answer's bytes as they came, vectors in the form that was asked for.

        Raises:
            UpstreamError: MALFORMED when it is not a JSON answer, or what its `error` says.
        """
        refused = refuse_body(response.headers)
        if refused is not None:
            raise refused
        # Where names were changed, those in the answer have to be changed back.
        may_be_sound = self.names == {} and self.endpoint not in _VECTORS
        if may_be_sound and (found := sound(response.body)) is not None:
            return Reply(
                body=response.body,
                model=found.model,
                usage=usage_of_wire(found.usage, found.service_tier),
                finish_reason=found.choices[0].finish_reason,
            )
        try:
            body = self._mended(response.body)
            answer = _decode_answer(body)
        except UNREADABLE as error:
            raise _malformed("The provider's answer is not the JSON of an answer.") from error
        if answer.error:
            failed = openai_errors.body_of(answer.error)
            raise openai_errors.error_inside(failed, secret=self.secret)
        return Reply(
            body=self._body(body),
            model=answer.model if isinstance(answer.model, str) and answer.model else None,
            usage=answer.counts(),
            finish_reason=self._finish_reason(answer),
        )

    def error_of(self, response: HttpResponse) -> UpstreamError:
        """Turn any other answer into a failure, decided by status and typed body."""
        return openai_errors.error_of(response, secret=self.secret)

    def refuse_head(self, status: int, headers: Mapping[str, str]) -> UpstreamError | None:
        """Refuse a stream at the door: None for a 2xx event stream, else why not."""
        if not 200 <= status < 300:  # noqa: PLR2004
            return self.error_of(HttpResponse(status=status, headers=headers, body=b""))
        return refuse_stream(headers)

    def scanner(self) -> OpenAIScanner:
        """Return a fresh scanner for this exchange's stream."""
        if self.names is not None:
            return MendingScanner(
                self._mender(self.names),
                include_usage=self.include_usage,
                usage_forced=self.usage_forced,
                secret=self.secret,
            )
        return OpenAIScanner(
            include_usage=self.include_usage,
            usage_forced=self.usage_forced,
            secret=self.secret,
        )

    def _mender(self, names: Mapping[str, str]) -> Mender:
        return Mender(names, model=self.model, created_s=wall_ms() // 1000)

    def _mended(self, body: bytes) -> bytes:
        if self.names is None:
            return body
        mender = self._mender(self.names)
        mended = mender.whole(_decode_object(body))
        return _encode(mended) if mender.changed else body

    def _body(self, body: bytes) -> bytes:
        if self.endpoint not in _VECTORS:
            return body
        if self.dimensions is not None and first_width(body) not in (None, self.dimensions):
            raise other_width(self.dimensions)
        try:
            body = in_order(body, self.inputs)
            return in_asked_form(body, encoding_format=self.encoding_format)
        except (ValueError, *UNREADABLE) as error:
            raise _malformed("The provider's vectors cannot be read.") from error

    def _finish_reason(self, answer: _Answer) -> str | None:
        if self.endpoint in _VECTORS:
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
        if self.endpoint == _CHAT and any(choice.message is None for choice in answer.choices):
            raise _malformed("The provider's answer has a choice without a `message`.")
        return reason


def _malformed(message: str) -> UpstreamError:
    return UpstreamError(FailureKind.MALFORMED, message)
