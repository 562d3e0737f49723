"""Other providers' thoughts inside Anthropic's blocks, and out of them again.

Clients of Anthropic's dialect send thinking blocks back unchanged, signature and all. So what
another provider wants back with its thoughts travels in their signature, and comes out of it when
the next turn goes there. Anthropic itself would refuse such a signature as forged.
"""

import re
from urllib.parse import quote, unquote

import msgspec

from shared.chat.message import Reasoning

OWN = "anthropic"
_MARK = "sluiceway"
_FOREIGN = re.compile(rb'"(?:signature|data)"\s*:\s*"(?:"|sluiceway:)|"extra_content"')
_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_messages = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode
_decode_content = msgspec.json.Decoder(str | list[dict[str, msgspec.Raw]]).decode


def packed(dialect: str | None, signature: str | None, own_id: str | None) -> str:
    """Return the signature (or redacted data) to show; empty when there is nothing to prove."""
    if dialect == OWN or (signature is None and own_id is None):
        return signature or ""
    named = [quote(word or "", safe="") for word in (dialect, own_id)]
    return ":".join([_MARK, *named, signature or ""])


def unpacked(shown: str, *, text: str = "", redacted: bool = False) -> Reasoning:
    """Return the thought of a block that came back; its signature is the provider's own again."""
    if not shown:
        return Reasoning(text=text, redacted=redacted)
    if not shown.startswith(_MARK + ":"):
        return Reasoning(text=text, signature=shown, redacted=redacted, dialect=OWN)
    dialect, _, rest = shown.removeprefix(_MARK + ":").partition(":")
    own_id, _, signature = rest.partition(":")
    return Reasoning(
        text=text,
        signature=signature or None,
        redacted=redacted,
        dialect=unquote(dialect) or None,
        id=unquote(own_id) or None,
    )


def without_foreign(raw: bytes) -> bytes:
    """Return the request without what Anthropic itself would refuse of other providers' turns.

    Thinking without a signature, or with one that hides another provider's, is left out, and so are
    the `extra_content` of tool calls. A request without such comes back byte for byte.
    """
    if _FOREIGN.search(raw) is None:
        return raw
    try:
        fields = _decode(raw)
        messages = _decode_messages(fields.get("messages", b"[]"))
        for message in messages:
            content = _decode_content(message.get("content", b'""'))
            if isinstance(content, list):
                message["content"] = _raw([_plain(one) for one in content if not _is_foreign(one)])
    except msgspec.DecodeError:
        return raw  # not of the dialect's form: the provider says what is wrong
    fields["messages"] = _raw(messages)
    return msgspec.json.encode(fields)


def _is_foreign(block: dict[str, msgspec.Raw]) -> bool:
    name = {b'"thinking"': "signature", b'"redacted_thinking"': "data"}.get(
        bytes(block.get("type", b""))
    )
    if name is None:
        return False
    shown = bytes(block.get(name, b'""'))
    return shown == b'""' or shown.startswith(b'"sluiceway:')


def _plain(block: dict[str, msgspec.Raw]) -> dict[str, msgspec.Raw]:
    return {name: value for name, value in block.items() if name != "extra_content"}


def _raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))
