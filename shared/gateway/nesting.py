"""How deep a body is nested, for the case that it was too deep for somebody. Pure.

What reads JSON goes down by calls, of which Python allows a thousand or so, those that led there
included: a body that one reader just takes can break the next, on its way to a provider.
"""

import re
from itertools import accumulate

MOST_LEVELS = 200
"""Every reader takes them. Nobody asks so: OpenAI's schemas end at 10, arguments are texts."""

_TEXT = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_NO_STEPS = bytes(set(range(256)) - _STEPS.keys())


def is_too_deep(body: bytes) -> bool:
    """Return whether JSON is nested in more than MOST_LEVELS levels."""
    steps = _TEXT.sub(b"", body).translate(None, _NO_STEPS)
    return max(accumulate(map(_STEPS.__getitem__, steps)), default=0) > MOST_LEVELS
