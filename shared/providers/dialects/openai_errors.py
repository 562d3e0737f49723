"""OpenAI's error bodies, and the many shapes of its imitators, as UpstreamError.

Decided by status, then by the body's `code` and `type`; only three families of servers give
nothing but a text (xAI's wrong key, vLLM's and llama.cpp's context length).

Quota and billing refusals (429 `insufficient_quota` and its kin, 402) are CREDENTIAL, not
RATE_LIMITED: waiting does not help and the same credential must not be tried again.
"""

import re
from collections.abc import Mapping

import msgspec

from shared.errors import FailureKind, UpstreamError
from shared.providers.exchange import HttpResponse
from shared.providers.hiding import hidden, hide
from shared.providers.retry_after import http_date, may_repeat, retry_after_s

_DETAILS = ("failed_generation", "innererror")
"""Groq: what the model wrote instead of a tool call. Azure: what its filter found."""

_CODES = {
    FailureKind.CREDENTIAL: (
        "insufficient_quota", "billing_hard_limit_reached", "billing_not_active",
        "credit_balance_exhausted", "organization_spend_limit_exceeded",
        "project_spend_limit_exceeded", "organization_usage_limit_exceeded",
        "enforced_spend_limit_reached", "exceeded_current_quota_error", "invalid_api_key",
        "incorrect_api_key", "account_deactivated", "authentication_error", "permission_error",
        "1113", "1308",
    ),
    FailureKind.CONTEXT_LENGTH: (
        "context_length_exceeded", "exceed_context_size_error", "context_window_exceeded",
    ),
    FailureKind.CONTENT_FILTER: (
        "content_filter", "content_policy_violation", "moderation_blocked", "sensitive",
        "responsibleaipolicyviolation",
    ),
    FailureKind.OVERLOADED: (
        "overloaded_error", "engine_overloaded_error", "server_is_overloaded", "overloaded",
        "service_unavailable", "service_unavailable_error", "queue_exceeded",
    ),
}  # fmt: skip
_KIND_OF_CODE = {code: kind for kind, codes in _CODES.items() for code in codes}

_KIND_OF_NAME = {
    "rate_limit_exceeded": FailureKind.RATE_LIMITED,
    "rate_limit_error": FailureKind.RATE_LIMITED,
    "requests": FailureKind.RATE_LIMITED,
    "tokens": FailureKind.RATE_LIMITED,
    "model_not_found": FailureKind.NOT_FOUND,
    "not_found_error": FailureKind.NOT_FOUND,
    "timeout": FailureKind.TIMEOUT,
    "timeout_error": FailureKind.TIMEOUT,
    "invalid_request_error": FailureKind.REJECTED,
    "tool_use_failed": FailureKind.REJECTED,
}
"""For errors inside a stream, where no status tells."""

_KIND_OF_STATUS = {
    401: FailureKind.CREDENTIAL,
    402: FailureKind.CREDENTIAL,
    403: FailureKind.CREDENTIAL,
    404: FailureKind.NOT_FOUND,
    408: FailureKind.TIMEOUT,
    # A lock on the provider's side: OpenAI's own SDK tries it again like a 500.
    409: FailureKind.SERVER_ERROR,
    429: FailureKind.RATE_LIMITED,
    # Groq's flex capacity.
    498: FailureKind.OVERLOADED,
    503: FailureKind.OVERLOADED,
    504: FailureKind.TIMEOUT,
    524: FailureKind.TIMEOUT,
    529: FailureKind.OVERLOADED,
}

_TEXTS = (
    (re.compile(r"incorrect api key|invalid api key", re.IGNORECASE), FailureKind.CREDENTIAL),
    (
        re.compile(
            r"maximum context length|exceeds? the (available |model'?s )?context", re.IGNORECASE
        ),
        FailureKind.CONTEXT_LENGTH,
    ),
)
"""Read in 400s only."""

_XAI_CHECK = "SAFETY_CHECK_TYPE_"
"""xAI refuses a prompt with 403, as it does a key, and names the check that failed."""

_TITLE = re.compile(r"<title[^>]*>([^<]{1,200})", re.IGNORECASE)


class ErrorBody(msgspec.Struct, frozen=True, kw_only=True):
    """What an error body says, whatever its shape."""

    message: str | None = None
    code: str | None = None
    type: str | None = None
    param: str | None = None
    status: int | None = None
    details: Mapping[str, object] = {}


def error_of(response: HttpResponse, *, secret: str | None = None) -> UpstreamError:
    """Return what an answer other than 2xx means; `secret` never stands in its message.

    A `Retry-After` date is measured against the answer's own `Date`, which no skew of clocks can
    falsify.
    """
    body = read_error(response.body)
    kind = kind_of(response.status, body)
    message = body.message or _untold(response)
    return UpstreamError(
        kind,
        hide(message, secret),
        status=response.status,
        retry_after_s=retry_after_s(
            response.headers,
            http_date(response.headers.get("date")),
            status=response.status,
        ),
        again=may_repeat(response.headers),
        upstream_code=_code(kind, body),
        upstream_type=body.type,
        param=body.param,
        details=hidden(body.details, secret),
    )


def error_inside(body: ErrorBody, *, secret: str | None = None) -> UpstreamError:
    """Return what an error inside a 200 means; its own status counts if it names one."""
    message = body.message or "The provider reported an error without a text."
    kind = kind_of(body.status, body)
    return UpstreamError(
        kind,
        hide(message, secret),
        status=body.status,
        upstream_code=_code(kind, body),
        upstream_type=body.type,
        param=body.param,
        details=hidden(body.details, secret),
    )


def _code(kind: FailureKind, body: ErrorBody) -> str | None:
    """Return the body's code unless it says less than the kind: vLLM's is the status again."""
    clear = kind not in (FailureKind.CONTEXT_LENGTH, FailureKind.CONTENT_FILTER)
    return body.code if clear or (body.code or "").lower() in _KIND_OF_CODE else None


def kind_of(status: int | None, body: ErrorBody) -> FailureKind:
    """Return the kind of failure; without a status the body's own words decide."""
    for name in (body.code, body.type):
        kind = _KIND_OF_CODE.get((name or "").lower())
        if kind is not None:
            return kind
    if status is None:
        return _kind_of_words(body)
    if status == 400 and body.message:  # noqa: PLR2004
        for text, kind in _TEXTS:
            if text.search(body.message):
                return kind
    if status == 403 and _XAI_CHECK in (body.message or ""):  # noqa: PLR2004
        return FailureKind.CONTENT_FILTER
    if status in _KIND_OF_STATUS:
        return _KIND_OF_STATUS[status]
    if status >= 500:  # noqa: PLR2004
        return FailureKind.SERVER_ERROR
    return FailureKind.REJECTED if status >= 400 else FailureKind.MALFORMED  # noqa: PLR2004


def read_error(body: bytes) -> ErrorBody:
    """Return what a body of any shape says: object, string, list, `{message}`, `{detail}`, HTML."""
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ErrorBody(message=_plain_text(body))
    if isinstance(decoded, list) and decoded:
        decoded = decoded[0]
    if isinstance(decoded, Mapping):
        error = decoded.get("error")
        if isinstance(error, Mapping):
            return body_of(error)
        if isinstance(error, str):
            return body_of({**decoded, "message": error})
    return body_of(decoded)


def body_of(error: object) -> ErrorBody:
    """Return what the value of an `error` member (or a flat body) says."""
    if isinstance(error, str):
        return ErrorBody(message=error)
    if not isinstance(error, Mapping):
        return ErrorBody()
    code = error.get("code")
    metadata = error.get("metadata")
    reasons = metadata.get("reasons") if isinstance(metadata, Mapping) else None
    return ErrorBody(
        message=_message(error, metadata),
        # OpenRouter's 403 is a moderation verdict when it gives reasons, else a credential's.
        code="content_policy_violation" if reasons else _text(code),
        type=_text(error.get("type")),
        param=_text(error.get("param")),
        status=_status(error.get("status_code"), code, error.get("status")),
        details={name: error[name] for name in _DETAILS if error.get(name) is not None},
    )


def _message(error: Mapping[str, object], metadata: object) -> str | None:
    """Return the text; OpenRouter's own says little, and what the vendor said stands beside it."""
    told = (_text(error.get(name)) for name in ("message", "detail", "msg"))
    text = next(filter(None, told), None)
    raw = metadata.get("raw") if isinstance(metadata, Mapping) else None
    return f"{text}: {raw}" if text and isinstance(raw, str) and raw else text


def _kind_of_words(body: ErrorBody) -> FailureKind:
    for name in (body.code, body.type):
        kind = _KIND_OF_NAME.get((name or "").lower())
        if kind is not None:
            return kind
    return FailureKind.SERVER_ERROR


def _untold(response: HttpResponse) -> str:
    """Return a body of no known form as it is."""
    text = _plain_text(response.body) or ""
    if text.startswith(("{", "[")) and any(character.isalnum() for character in text):
        return text
    return f"The provider answered {response.status} without a text."


def _plain_text(body: bytes) -> str | None:
    text = body[:8192].decode("utf-8", "replace").strip()
    if text.startswith("<"):
        title = _TITLE.search(text)
        return title[1].strip() if title else None
    return text or None


def _text(value: object) -> str | None:
    if value is None or isinstance(value, bool) or value == "":
        return None
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return str(value)
    return msgspec.json.encode(value).decode()


def _status(*values: object) -> int | None:
    for value in values:
        if isinstance(value, str) and value.isdecimal():
            value = int(value)  # noqa: PLW2901
        if isinstance(value, int) and not isinstance(value, bool) and 400 <= value <= 599:  # noqa: PLR2004
            return value
    return None
