"""What may be written down of a request's or an answer's body: no secrets, no media, not too much.

Pure. A body is decoded first and its texts are looked at one by one, so that no escape hides
anything; a text is cut before it is searched and loses its new end after, so that no half of a
secret is left over.
"""

import json
import re
from collections.abc import Iterable
from urllib.parse import quote, quote_plus

import msgspec

from shared.telemetry.personal import is_card, without_personal_data
from shared.telemetry.redaction import HIDDEN, names_a_secret, without_secrets

MOST_CHARACTERS = 16_384
"""Of the texts and names of one body."""
MARGIN = 4_096
"""What a cut text loses at its end: as long as the longest secret that we know of."""
CUT = "…[cut]"
_MOST_DEPTH = 32
_LEAST_MEDIA = 256
_LOOK = 2_048
_MOST_NUMBERS = 32

_DATA_URL = re.compile(r"data:([\w.+/\-]{1,100})?(?:;[\w=.\-]{1,100}){0,3};base64,([\w+/=\-]*)")
_NOT_BASE64 = re.compile(r"[^A-Za-z0-9+/_=\-\r\n]")
_NAMED_SECRET = re.compile(  # a quoted name and its quoted value: JSON inside a text
    r"""(?P<name>\\*["'][\w\-]{0,40}(?:api_?-?key|secret|passw|token|authorization|credential)
        [\w\-]{0,40}\\*["']\s*:\s*\\*["'])[^"'\\]+""",
    re.VERBOSE | re.IGNORECASE,
)


class Scrubber:
    """Scrubs bodies; `secrets` are values that never appear, `personal`: nor does personal data."""

    def __init__(self, secrets: Iterable[str] = (), *, personal: bool = True) -> None:
        forms = {form for secret in secrets for form in _forms(secret)}
        self._secrets = sorted(forms, key=lambda form: (-len(form), form))
        self._personal = personal

    def body(self, raw: bytes) -> object:
        """Return what may be shown of JSON or text."""
        try:
            value: object = msgspec.json.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            value = raw.decode("utf-8", "replace")
        return self.value(value)

    def value(self, value: object) -> object:
        """Return what may be shown of a decoded body, MOST_CHARACTERS at most."""
        return _Walk(self).shown("", value, 0)

    def text(self, text: str) -> str:
        """Return the whole text without secrets, and without personal data where that is asked."""
        for secret in self._secrets:
            if secret in text:
                text = text.replace(secret, HIDDEN)
        text = without_secrets(text)
        if ":" in text:
            text = _NAMED_SECRET.sub(rf"\g<name>{HIDDEN}", text)
        return without_personal_data(text) if self._personal else text

    def number(self, number: float) -> object:
        """Return the number; a card's is personal."""
        if self._personal and isinstance(number, int) and is_card(number):
            return "[card]"
        text = str(number)
        return HIDDEN if any(secret in text for secret in self._secrets) else number


class _Walk:
    """One body on its way; counts what is left of its room."""

    def __init__(self, scrubber: Scrubber) -> None:
        self._scrubber = scrubber
        self._left = MOST_CHARACTERS

    def shown(self, name: str, value: object, depth: int) -> object:
        self._left -= 1
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int | float):
            return self._scrubber.number(value)
        if names_a_secret(name) or depth > _MOST_DEPTH:
            return HIDDEN
        if isinstance(value, dict):
            return self._mapping(value, depth + 1)
        if isinstance(value, list):
            return self._list(value, depth + 1)
        return self._text(str(value))

    def _mapping(self, value: dict[str, object], depth: int) -> dict[str, object]:
        found: dict[str, object] = {}
        for name, inner in value.items():
            if self._left <= 0:
                found[CUT] = len(value) - len(found)
                break
            found[self._text(name)] = self.shown(name, inner, depth)
        return found

    def _list(self, value: list[object], depth: int) -> object:
        if len(value) > _MOST_NUMBERS and all(isinstance(one, int | float) for one in value):
            return f"[{len(value)} numbers]"
        found: list[object] = []
        for inner in value:
            if self._left <= 0:
                found.append(CUT)
                break
            found.append(self.shown("", inner, depth))
        return found

    def _text(self, text: str) -> str:
        if _is_media(text):
            return f"[base64, {len(text) * 3 // 4} bytes]"
        if "base64," in text:
            text = _DATA_URL.sub(_media_size, text)
        long = len(text) > MOST_CHARACTERS + MARGIN
        text = self._scrubber.text(text[: MOST_CHARACTERS + MARGIN] if long else text)
        if long:
            text = text[: max(0, len(text) - MARGIN)]
        room = max(0, self._left)
        self._left -= len(text)
        return text[:room] + CUT if long or len(text) > room else text


def _is_media(text: str) -> bool:
    """Return whether a text is one long run of base64; of a very long one only a part is read."""
    if len(text) < _LEAST_MEDIA or not text.isascii():
        return False
    return _NOT_BASE64.search(text, 0, _LOOK) is None and _NOT_BASE64.search(text[-64:]) is None


def _media_size(found: re.Match[str]) -> str:
    return f"[{found[1] or 'data'}, {len(found[2]) * 3 // 4} bytes]"


def _forms(secret: str) -> set[str]:
    """Return the ways in which a secret may stand in a text: as it is, escaped, quoted."""
    forms = {secret, quote(secret, safe=""), quote_plus(secret)}
    once = {secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
    twice = {json.dumps(form)[1:-1] for form in once}
    return forms | once | twice
