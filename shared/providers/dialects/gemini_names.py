"""Names, ids and proofs that a conversation with Gemini needs and callers do not know."""

import base64
import hashlib
import re
from collections.abc import Iterable

NAME_CHARACTERS = 64
"""Longer function names are refused; the newest models take 128."""

DUMMY_SIGNATURE = base64.b64encode(b"skip_thought_signature_validator").decode()
"""Google's documented stand-in for calls of other models, which have no proof of thought."""

_VERTEX = "vertex:"
"""Marks the proofs of Vertex, which the Developer API refuses, as it does the other way around.

Neither alphabet of base64 has a colon, so that bare ones are told apart.
"""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.:\-]{0,63}")
_FOREIGN = re.compile(r"[^A-Za-z0-9_.:\-]")


class ToolNames:
    """The caller's tool names as Gemini takes them, and back.

    One that Gemini takes stays as it is; another is cleaned and gets a suffix made of the whole
    name, so that no two become one.
    """

    def __init__(self, declared: Iterable[str] = ()) -> None:
        self.callers: dict[str, str] = {}
        for name in declared:
            self.sent(name)

    def sent(self, name: str) -> str:
        """Return the name to send."""
        if _NAME.fullmatch(name):
            return name
        suffix = hashlib.sha256(name.encode()).hexdigest()[:8]
        clean = _FOREIGN.sub("_", name)
        if not _NAME.match(clean):
            clean = f"_{clean}"
        short = f"{clean[: NAME_CHARACTERS - len(suffix) - 1]}_{suffix}"
        self.callers[short] = name
        return short


def call_id(answer: str, choice: int, index: int) -> str:
    """Return the id of a call that Gemini gave none; the same for the same place of an answer."""
    place = f"{answer}/{choice}/{index}"
    return "call_" + hashlib.sha256(place.encode()).hexdigest()[:24]


def shown_signature(signature: str | None, *, vertex: bool) -> str | None:
    """Return a proof as callers keep it, which tells the surface it is good for."""
    return _VERTEX + signature if signature and vertex else signature


def sent_signature(signature: str | None, *, vertex: bool) -> str | None:
    """Return a proof that callers kept, byte for byte; None where this surface would refuse it."""
    if signature is None or signature.startswith(_VERTEX) is not vertex:
        return None
    return signature.removeprefix(_VERTEX)
