"""Secrets at rest: sealed with a key made from SLUICEWAY_SECRET_KEY, unreadable without it."""

import base64

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from shared.errors import OwnFault

_PURPOSE = b"sluiceway: secrets in the database"
"""Keeps this key apart from others made of the same secret (RFC 5869, `info`)."""


class Sealer:
    """Seals and opens short texts: Fernet (AES-128-CBC, HMAC-SHA256) over an HKDF key."""

    def __init__(self, secret_key: str) -> None:
        derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=_PURPOSE)
        key = derived.derive(secret_key.encode())
        self._fernet = Fernet(base64.urlsafe_b64encode(key))

    def seal(self, text: str) -> str:
        """Return the text sealed; each time differently."""
        return self._fernet.encrypt(text.encode()).decode()

    def open(self, sealed: str) -> str:
        """Return the text.

        Raises:
            OwnFault: it was sealed with another SLUICEWAY_SECRET_KEY, or is damaged.
        """
        try:
            return self._fernet.decrypt(sealed).decode()
        except InvalidToken as error:
            raise OwnFault(
                "A secret in the database does not open; was it sealed under another "
                "SLUICEWAY_SECRET_KEY?"
            ) from error
