"""Names and ids within Bedrock's bounds, and back: the same for the same, never two alike."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

LONGEST = 64
_DIGEST = 8
_FOREIGN_IN_NAME = re.compile(r"[^a-zA-Z0-9_-]")
_FOREIGN_IN_ID = re.compile(r"[^a-zA-Z0-9_.:-]")


class ToolNames:
    """The names of a request's tools and calls.

    `callers` turns those that had to be changed back; models also invent names, so names in history
    are no better than declared ones.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._sent = {name: _fitting(name, _FOREIGN_IN_NAME) for name in names}

    def __getitem__(self, name: str) -> str:
        return self._sent[name]

    @property
    def callers(self) -> Mapping[str, str]:
        """The caller's names by the sent ones, where they differ."""
        return MappingProxyType({sent: name for name, sent in self._sent.items() if sent != name})


def call_id(callers: str) -> str:
    """Return an id as Bedrock takes it; it stands in a call and in its result."""
    return _fitting(callers, _FOREIGN_IN_ID)


def _fitting(text: str, foreign: re.Pattern[str]) -> str:
    """Return the text itself if it fits, else what can be read of it and a digest of all of it."""
    clean = foreign.sub("_", text)
    if clean == text and 0 < len(text) <= LONGEST:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST]
    return f"{clean[: LONGEST - _DIGEST - 1]}_{digest}"
