"""Characters that a stream of JSON has cut in two: the halves of UTF-16, each in another event.

Vendors that count in units of UTF-16 cut an emoji so. A half by itself is no text, and a reader
that goes by the rules takes the whole event for broken.
"""

import re

_ESCAPED = re.compile(
    rb"\\(?:u([dD][89abAB][0-9a-fA-F]{2})(\\u[dD][c-fC-F][0-9a-fA-F]{2})?(\")?"
    rb"|u([dD][c-fC-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
_NO_TEXT = rb"\ufffd"


class Halves:
    """Puts them together again, in the later event; one that stays alone is left out, or U+FFFD."""

    def __init__(self) -> None:
        self._half = b""

    def whole(self, data: bytes) -> bytes:
        """Return the JSON of the next event without halves; nearly always it has none."""
        if data.find(rb"\ud") < 0 and data.find(rb"\uD") < 0:  # `in` costs twenty times as much
            return data
        return _ESCAPED.sub(self._made_whole, data)

    def _made_whole(self, found: re.Match[bytes]) -> bytes:
        high, low, ends, late = found.groups()
        if high is not None and low is None:
            if ends is None:
                return _NO_TEXT
            self._half = rb"\u" + high
            return b'"'
        if late is None:
            return found[0]
        half, self._half = self._half, b""
        begins = found.string[found.start() - 1 : found.start()] == b'"'
        return half + found[0] if half and begins else _NO_TEXT
