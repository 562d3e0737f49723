"""What a provider says is shown and logged without the credential it was called with."""

import re
from collections.abc import Mapping

import msgspec

from shared.errors import UpstreamError
from shared.telemetry.redaction import without_secrets

MESSAGE_LIMIT = 2_000
"""Characters of a provider's text that are kept."""

DETAIL_LIMIT = 16_000
"""Characters of a detail; a longer one is left out."""

_SECRETS = re.compile(
    r"\b(?:sk|pk|rk|gsk|xai|key)[-_][A-Za-z0-9*_\-]{6,}|\bAIza[\w\-]{10,}|Bearer\s+\S+"
)


def hide(message: str, secret: str | None) -> str:
    """Return the text without the credential and without anything that looks like one."""
    return _plain(message, secret)[:MESSAGE_LIMIT]


def hidden(details: Mapping[str, object], secret: str | None) -> Mapping[str, object]:
    """Return the details without secrets, and without those that are too long to show."""
    return {
        name: _without(value, secret)
        for name, value in details.items()
        if len(msgspec.json.encode(value)) <= DETAIL_LIMIT
    }


def without_secret(error: UpstreamError, secret: str | None) -> UpstreamError:
    """Return the failure with its texts as `hide` leaves them; it is changed in place."""
    error.message = hide(error.message, secret)
    error.args = (error.message,)
    error.details = hidden(error.details, secret)
    return error


def _without(value: object, secret: str | None) -> object:
    match value:
        case str():
            return _plain(value, secret)
        case dict():
            return {name: _without(inner, secret) for name, inner in value.items()}
        case list():
            return [_without(inner, secret) for inner in value]
        case _:
            return value


def _plain(text: str, secret: str | None) -> str:
    if secret:
        text = text.replace(secret, "[hidden]")
    return without_secrets(_SECRETS.sub("[hidden]", text))
