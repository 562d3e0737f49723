"""A provider's proof of its thoughts, inside `encrypted_content` of OpenAI's Responses.

OpenAI's own stands there as it is. That of others is packed with the dialect it belongs to, so
that it goes back to whom it came from and to nobody else.
"""

import base64
import binascii

import msgspec

from shared.chat.message import Reasoning

OWN = "openai_responses"
MARK = "sluiceway.1."
"""Begins what we packed. OpenAI's begins with `gAAAA`."""


class _Proof(msgspec.Struct, array_like=True):
    dialect: str | None
    signature: str
    redacted: bool = False


def packed(dialect: str | None, signature: str, *, redacted: bool) -> str:
    """Return what stands in `encrypted_content`."""
    if dialect == OWN and not redacted:
        return signature
    proof = msgspec.json.encode(_Proof(dialect, signature, redacted))
    return MARK + base64.urlsafe_b64encode(proof).decode().rstrip("=")


def unpacked(text: str, content: str | None, item_id: str | None) -> Reasoning:
    """Return the piece of reasoning that an item holds; a damaged proof is none."""
    if not content:
        return Reasoning(text=text, id=item_id)
    if not content.startswith(MARK):
        return Reasoning(text=text, signature=content, dialect=OWN, id=item_id)
    code = content.removeprefix(MARK)
    try:
        raw = base64.urlsafe_b64decode(code + "=" * (-len(code) % 4))
        proof = msgspec.json.decode(raw, type=_Proof)
    except (binascii.Error, ValueError, msgspec.DecodeError):
        return Reasoning(text=text, id=item_id)
    return Reasoning(
        text=text,
        signature=proof.signature,
        redacted=proof.redacted,
        dialect=proof.dialect,
        id=item_id,
    )
