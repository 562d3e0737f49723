"""Signing requests to AWS with botocore's Signature Version 4."""

from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Any

import msgspec

SERVICE = "bedrock"
"""The name that goes into signatures; that of the host is another."""
_TIMESTAMP = "%Y%m%dT%H%M%SZ"


class Signer(msgspec.Struct, frozen=True, kw_only=True):
    """AWS credentials, and the moment that the signature is made for (`20261121T120000Z`).

    A signature is refused when that is more than five minutes away from AWS's own time. `region` is
    that of the credentials' own configuration, if it names one.
    """

    access_key: str
    secret_key: str
    token: str | None = None
    region: str | None = None
    at: str = ""

    def on(self, moment: datetime) -> "Signer":
        """Return the same for a signature made now; `moment` is in UTC."""
        return msgspec.structs.replace(self, at=moment.strftime(_TIMESTAMP))

    def as_secret(self) -> str:
        """Return it as the text that passes for an adapter's secret."""
        return msgspec.json.encode(self).decode()


_decode = msgspec.json.Decoder(Signer).decode


def signer_in(secret: str | None) -> Signer | None:
    """Return the credentials in an adapter's secret, None when that is a plain key."""
    if secret is None or not secret.startswith("{"):
        return None
    try:
        return _decode(secret)
    except msgspec.DecodeError:
        return None


def signed(
    headers: Mapping[str, str], *, url: str, body: bytes, region: str, signer: Signer
) -> dict[str, str]:
    """Return the headers of a POST with the signature among them.

    Only the content type is signed besides what has to be: whatever stands between may change the
    others.
    """
    from botocore.awsrequest import AWSRequest

    content_type = {"content-type": headers["content-type"]}
    request = AWSRequest(method="POST", url=url, headers=content_type, data=body)
    _signing()(signer, SERVICE, region).sign(request, signer.at)
    own = {name.lower(): str(value) for name, value in request.headers.items()}
    return {**headers, **own}


@cache
def _signing() -> Any:  # noqa: ANN401 (botocore has no types)
    """Return the signer's class; made here because botocore is loaded by the first who needs it."""
    from botocore.auth import SigV4Auth

    class Signing(SigV4Auth):  # type: ignore[misc]
        """Signs at a given moment, where botocore's own reads a clock."""

        def sign(self, request: Any, at: str) -> None:  # noqa: ANN401
            """Add the headers of a signature to the request."""
            request.context["timestamp"] = at
            self._modify_request_before_signing(request)
            text = self.string_to_sign(request, self.canonical_request(request))
            self._inject_signature_to_request(request, self.signature(text, request))

    return Signing
