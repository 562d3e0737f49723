"""Standard Webhooks signatures: HMAC-SHA256 over `id.timestamp.body`, the bytes as sent.

Source: the Standard Webhooks specification, which OpenAI's webhooks follow too.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Sequence
from datetime import datetime

PREFIX = "whsec_"
SECRET_BYTES = 24
"""A multiple of three: base64 of it needs no padding, which some verifiers do not accept."""

_SHORTEST_BYTES = 24
_LONGEST_BYTES = 64


class InvalidSecret(ValueError):
    """Not `whsec_` and base64 of 24 to 64 bytes. The message never holds the secret."""


def new_secret(random_bytes: Callable[[int], bytes]) -> str:
    """Return a fresh secret; `random_bytes` is `os.urandom`, or a test's."""
    return PREFIX + base64.b64encode(random_bytes(SECRET_BYTES)).decode()


def secret_for(purpose: str, secret_key: str) -> str:
    """Return the secret that a deployment's secret key makes for a purpose, always the same."""
    mac = hmac.new(secret_key.encode(), purpose.encode(), hashlib.sha256).digest()
    return PREFIX + base64.b64encode(mac[:SECRET_BYTES]).decode()


def key_of(secret: str) -> bytes:
    """Return the signing key in a secret; the prefix and the padding may be missing.

    Raises:
        InvalidSecret: it is not one.
    """
    text = secret.removeprefix(PREFIX).rstrip("=")
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidSecret("the webhook secret is not base64") from error
    if not _SHORTEST_BYTES <= len(key) <= _LONGEST_BYTES:
        raise InvalidSecret(
            f"the webhook secret must hold {_SHORTEST_BYTES} to {_LONGEST_BYTES} bytes"
        )
    return key


def signed_headers(
    secrets: Sequence[str], *, event_id: str, at: datetime, body: bytes
) -> dict[str, str]:
    """Return the three headers of one delivery attempt.

    `event_id` stays the same over all attempts, `at` is the attempt's own moment. Several secrets
    (while one is rotated) give several signatures, of which receivers accept any.

    Raises:
        InvalidSecret: one of them is not a secret.
        ValueError: there is none, or `at` is naive (its timestamp would depend on the machine).
    """
    if not secrets:
        raise ValueError("signing needs a secret")
    if at.tzinfo is None:
        raise ValueError("signing needs an aware moment")
    stamp = str(int(at.timestamp()))
    content = b".".join((event_id.encode(), stamp.encode(), body))
    return {
        "webhook-id": event_id,
        "webhook-timestamp": stamp,
        "webhook-signature": " ".join(_signature(key_of(secret), content) for secret in secrets),
    }


def _signature(key: bytes, content: bytes) -> str:
    mac = hmac.new(key, content, hashlib.sha256).digest()
    return "v1," + base64.b64encode(mac).decode()
