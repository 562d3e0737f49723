"""Bedrock's exceptions, in answers and inside streams, as UpstreamError.

Their names decide, then the status. Where one name means several things (ValidationException is
any 400), the documented sentences of the service tell them apart.
"""

from collections.abc import Mapping

import msgspec

from shared.errors import FailureKind, UpstreamError
from shared.providers.dialects.openai_errors import kind_of, read_error
from shared.providers.exchange import HttpResponse
from shared.providers.hiding import hide

_KIND_OF_NAME = {
    "accessdenied": FailureKind.CREDENTIAL,
    "unrecognizedclient": FailureKind.CREDENTIAL,
    "invalidsignature": FailureKind.CREDENTIAL,
    "signaturedoesnotmatch": FailureKind.CREDENTIAL,
    "incompletesignature": FailureKind.CREDENTIAL,
    "missingauthenticationtoken": FailureKind.CREDENTIAL,
    "invalidclienttokenid": FailureKind.CREDENTIAL,
    "expiredtoken": FailureKind.CREDENTIAL,
    "resourcenotfound": FailureKind.NOT_FOUND,
    "modeltimeout": FailureKind.TIMEOUT,
    "conflict": FailureKind.SERVER_ERROR,
    "servicequotaexceeded": FailureKind.RATE_LIMITED,
    "throttling": FailureKind.RATE_LIMITED,
    "toomanyrequests": FailureKind.RATE_LIMITED,
    "modelnotready": FailureKind.OVERLOADED,
    "model": FailureKind.SERVER_ERROR,
    "modelstream": FailureKind.SERVER_ERROR,
    "internalserver": FailureKind.SERVER_ERROR,
    "internalfailure": FailureKind.SERVER_ERROR,
    "serviceunavailable": FailureKind.OVERLOADED,
}
"""By the exception's name in lower case, without `Exception` and then without `Error`."""

_STATUS_OF_NAME = {
    "validation": 400,
    "throttling": 429,
    "modelstream": 424,
    "internalserver": 500,
    "serviceunavailable": 503,
}
"""What the exceptions of a stream would have been without it."""

_SENTENCES = (
    ("input is too long", FailureKind.CONTEXT_LENGTH, "context_length_exceeded"),
    ("prompt is too long", FailureKind.CONTEXT_LENGTH, "context_length_exceeded"),
    ("too many tokens", FailureKind.CONTEXT_LENGTH, "context_length_exceeded"),
    ("too many input tokens", FailureKind.CONTEXT_LENGTH, "context_length_exceeded"),
    ("exceeds the maximum number of tokens", FailureKind.CONTEXT_LENGTH, "context_length_exceeded"),
    ("provided model identifier is invalid", FailureKind.NOT_FOUND, "model_not_found"),
    ("model id is not supported", FailureKind.NOT_FOUND, "model_not_found"),
    # The model has to be asked through an inference profile: a fault of the config.
    ("on-demand throughput isn", FailureKind.NOT_FOUND, "model_not_found"),
    ("on-demand throughput is not", FailureKind.NOT_FOUND, "model_not_found"),
)
"""Of ValidationException only, in lower case."""

_REFUSALS = frozenset({FailureKind.REJECTED, FailureKind.CONTEXT_LENGTH})

_SPENT = "tokens per day"
"""A throttling that does not pass soon: the same credential must not be tried again."""


class _Body(msgspec.Struct):
    original_status: int | None = msgspec.field(name="originalStatusCode", default=None)
    original_message: str | None = msgspec.field(name="originalMessage", default=None)
    type: str | None = msgspec.field(name="__type", default=None)
    message: str | None = None
    shouted: str | None = msgspec.field(name="Message", default=None)

    @property
    def text(self) -> str | None:
        """The message in any of its spellings, the model's own behind the service's."""
        said = self.message or self.shouted
        if self.original_message and self.original_message != said:
            return f"{said or 'The model failed'}: {self.original_message}"
        return said


_decode = msgspec.json.Decoder(_Body, strict=False).decode


def error_of(response: HttpResponse, secret: str | None = None) -> UpstreamError:
    """Return what an answer other than 2xx means; `secret` never stands in its message."""
    body = _read(response.body)
    name = _plain(response.headers.get("x-amzn-errortype") or (body and body.type) or "")
    if body is None or not (name or body.text):
        return _foreign(response, secret)
    return _error(name, body, status=response.status, secret=secret)


def error_inside(name: str, payload: bytes, secret: str | None = None) -> UpstreamError:
    """Return what an exception inside a stream means; `name` is its `:exception-type`."""
    body = _read(payload) or _Body(message=payload[:200].decode("utf-8", "replace"))
    status = body.original_status or _STATUS_OF_NAME.get(_key(name))
    return _error(_plain(name), body, status=status, secret=secret)


def _error(name: str, body: _Body, *, status: int | None, secret: str | None) -> UpstreamError:
    message = body.text or f"The provider answered {name or status} without a text."
    kind, code = _verdict(name, message.lower(), status)
    return UpstreamError(
        kind,
        hide(message, secret),
        status=status,
        upstream_code=code,
        # The dialect's own word for a refused body goes out to callers, not the exception's name.
        upstream_type=None if kind in _REFUSALS else name or None,
    )


def _verdict(name: str, message: str, status: int | None) -> tuple[FailureKind, str | None]:
    key = _key(name)
    if key == "validation" or (not key and status == 400):  # noqa: PLR2004
        for sentence, kind, code in _SENTENCES:
            if sentence in message:
                return kind, code
        return FailureKind.REJECTED, None
    if key in {"throttling", "servicequotaexceeded"} and _SPENT in message:
        return FailureKind.CREDENTIAL, "insufficient_quota"
    known = _KIND_OF_NAME.get(key)
    if known is not None:
        return known, "model_not_found" if known is FailureKind.NOT_FOUND else None
    if status is None:
        return FailureKind.SERVER_ERROR, None
    return kind_of(status, read_error(b"{}")), None


def _foreign(response: HttpResponse, secret: str | None) -> UpstreamError:
    """Return what a proxy's answer means, or any other that is not Bedrock's."""
    body = read_error(response.body)
    message = body.message or f"The provider answered {response.status} without a text."
    return UpstreamError(
        kind_of(response.status, body), hide(message, secret), status=response.status
    )


def _read(raw: bytes) -> _Body | None:
    try:
        return _decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _plain(name: str) -> str:
    """Return `ValidationException` of `com.x#ValidationException:http://internal/`."""
    return name.partition(":")[0].rpartition("#")[2].strip()


def _key(name: str) -> str:
    return _plain(name).lower().removesuffix("exception").removesuffix("error")


def header_name(headers: Mapping[str, str]) -> str:
    """Return the kind of failure that the headers of a frame name."""
    return headers.get(":exception-type") or headers.get(":error-code") or ""
