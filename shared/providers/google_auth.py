"""Access tokens for Google's cloud, by the order of its application default credentials.

Known forms: a service account's key, a user's refresh token, and the metadata server of Google's
machines. Sources: RFC 7523, Google's OAuth 2.0 guides for servers. Workload identity federation
(`external_account`) is not among them: give such a process a token by `api_key`.
"""

import asyncio
import base64
import binascii
import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlencode

import msgspec

from shared.clock import Clock
from shared.errors import FailureKind, UpstreamError
from shared.providers.exchange import SUCCESS, HttpRequest, Transport
from shared.providers.hiding import hide

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
TOKEN_URI = "https://oauth2.googleapis.com/token"  # noqa: S105 (an address)
METADATA_PATH = "/computeMetadata/v1/instance/service-accounts/default/token"
METADATA_HOST = "metadata.google.internal"
EARLY_S = 300.0
"""Tokens are renewed so long before they expire; they live for about an hour."""

_CONNECT_S = 3.0
_LIMIT_BYTES = 1_000_000
_ASSERTION_S = 3600


class KeyFile(msgspec.Struct, frozen=True, kw_only=True):
    """What a credentials file holds."""

    type: str
    client_email: str = ""
    private_key: str = ""
    private_key_id: str = ""
    token_uri: str = TOKEN_URI
    client_id: str = ""
    client_secret: str = ""
    refresh_token: str = ""


class _Granted(msgspec.Struct):
    access_token: str
    expires_in: float = 3600.0


class _Refused(msgspec.Struct):
    error: str = ""
    error_description: str = ""


class _Token(msgspec.Struct, frozen=True):
    value: str
    renew_s: float


class GoogleAuthorizer:
    """Obtains tokens for one provider, one at a time, and keeps them until shortly before they end.

    `environ` and `home` are where default credentials are looked for.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ, home: Path | None = None) -> None:
        self._environ = environ
        self._home = home
        self._tokens: dict[str, _Token] = {}
        self._alone = asyncio.Lock()

    async def secret(self, secret: str | None, *, transport: Transport, clock: Clock) -> str:
        """Return a token; an API key or a token in the config is returned as it is.

        Raises:
            UpstreamError: not sent; CREDENTIAL when there are none, or they are refused.
        """
        if secret and not is_key_file(secret):
            return secret
        async with self._alone:
            kept = self._tokens.get(secret or "")
            if kept is None or kept.renew_s <= clock.monotonic():
                asked_s = clock.monotonic()
                granted = await _ask(await self._question(secret, clock), transport)
                renew_s = asked_s + max(granted.expires_in - EARLY_S, granted.expires_in / 2)
                kept = self._tokens[secret or ""] = _Token(granted.access_token, renew_s)
            return kept.value

    def refused(self) -> None:
        """Obtain another token next time."""
        self._tokens.clear()

    async def _question(self, secret: str | None, clock: Clock) -> HttpRequest:
        key = await asyncio.to_thread(self._key_file, secret)
        if key is None:
            host = self._environ.get("GCE_METADATA_HOST", METADATA_HOST)
            return HttpRequest(
                method="GET",
                url=f"http://{host}{METADATA_PATH}",
                headers={"metadata-flavor": "Google", "accept-encoding": "identity"},
                body=b"",
            )
        if key.type == "service_account":
            return await asyncio.to_thread(_assertion, key, int(clock.now().timestamp()))
        if key.type == "authorized_user":
            return _form(
                key.token_uri,
                grant_type="refresh_token",
                client_id=key.client_id,
                client_secret=key.client_secret,
                refresh_token=key.refresh_token,
            )
        raise _none(f"Google credentials of the type {key.type[:40]!r} are not supported.")

    def _key_file(self, secret: str | None) -> KeyFile | None:
        """Return the key given, else the default one, None where there is none."""
        if secret:
            return _read(Path(secret)) if secret.endswith(".json") else _decoded(_unpacked(secret))
        named = self._environ.get("GOOGLE_APPLICATION_CREDENTIALS")
        if named:
            return _read(Path(named))
        folder = self._environ.get("CLOUDSDK_CONFIG")
        kept = Path(folder) if folder else (self._home or Path.home()) / ".config/gcloud"
        default = kept / "application_default_credentials.json"
        return _read(default) if default.is_file() else None


def is_key_file(secret: str) -> bool:
    """Return whether a configured key is a key file: its path, or its JSON, plain or in base64."""
    return secret.endswith(".json") or _unpacked(secret).startswith(b"{")


def is_api_key(secret: str) -> bool:
    """Return whether this is an API key and not a token: Google's begin in two ways."""
    return secret.startswith(("AIza", "AQ."))


def _unpacked(secret: str) -> bytes:
    if secret.startswith("{"):
        return secret.encode()
    # How the base64 of `{"` and of `{` at a line's end begins.
    if not secret.startswith(("ey", "ew")):
        return b""
    try:
        return base64.b64decode(secret, validate=True)
    except binascii.Error:
        return b""


def _read(path: Path) -> KeyFile:
    try:
        return _decoded(path.read_bytes())
    except OSError as error:
        raise _none(f"Google credentials cannot be read: {error.strerror}.") from error


def _decoded(text: bytes) -> KeyFile:
    try:
        return msgspec.json.decode(text, type=KeyFile)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _none("Google credentials are not the JSON of a key file.") from error


def _assertion(key: KeyFile, now_s: int) -> HttpRequest:
    """Return a service account's request for a token: a claim signed with its key."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    head = {"alg": "RS256", "typ": "JWT", "kid": key.private_key_id}
    claims = {
        "iss": key.client_email,
        "scope": SCOPE,
        "aud": key.token_uri,
        "iat": now_s,
        "exp": now_s + _ASSERTION_S,
    }
    text = f"{_packed(msgspec.json.encode(head))}.{_packed(msgspec.json.encode(claims))}"
    try:
        private = load_pem_private_key(key.private_key.encode(), password=None)
    except (ValueError, TypeError) as error:
        raise _none("The private key of the Google service account cannot be read.") from error
    if not isinstance(private, rsa.RSAPrivateKey):
        raise _none("The private key of the Google service account is not RSA.")
    signature = private.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
    return _form(
        key.token_uri,
        grant_type="urn:ietf:params:oauth:grant-type:jwt-bearer",
        assertion=f"{text}.{_packed(signature)}",
    )


def _packed(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _form(url: str, **fields: str) -> HttpRequest:
    return HttpRequest(
        url=url,
        headers={
            "content-type": "application/x-www-form-urlencoded",
            "accept": "application/json",
            "accept-encoding": "identity",
        },
        body=urlencode(fields).encode(),
    )


async def _ask(question: HttpRequest, transport: Transport) -> _Granted:
    try:
        async with transport.open(question, connect_s=_CONNECT_S) as answer:
            body, status = await answer.read(_LIMIT_BYTES), answer.status
    except UpstreamError as error:
        if question.method == "GET":
            raise _none(
                "No Google credentials: set GOOGLE_APPLICATION_CREDENTIALS or the provider's key."
            ) from error
        raise UpstreamError(
            error.kind, f"Google's token server: {error.message}", sent=False
        ) from error
    if status not in SUCCESS:
        raise _refusal(status, body)
    try:
        return msgspec.json.decode(body, type=_Granted)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UpstreamError(
            FailureKind.MALFORMED, "Google's token server gave no token.", sent=False
        ) from error


def _refusal(status: int, body: bytes) -> UpstreamError:
    try:
        why = msgspec.json.decode(body, type=_Refused)
    except (msgspec.DecodeError, UnicodeDecodeError):
        why = _Refused()
    text = f"Google refused the credentials: {why.error_description or why.error or status}"
    if status >= 500:  # noqa: PLR2004
        return UpstreamError(FailureKind.SERVER_ERROR, hide(text, None), sent=False)
    return _none(hide(text, None))


def _none(message: str) -> UpstreamError:
    return UpstreamError(FailureKind.CREDENTIAL, message, sent=False)
