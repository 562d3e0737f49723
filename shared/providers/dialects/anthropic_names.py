"""Names and ids that Anthropic takes: its letters only, unique, and found again in the answer."""

import re
from collections.abc import Iterable, Mapping

_FOREIGN = re.compile(r"[^a-zA-Z0-9_-]")
LONGEST = 128
"""Characters of a tool's name."""


class Names:
    """The tools' names as they are sent; the declared ones first, so that they stay as they are."""

    def __init__(self, declared: Iterable[str]) -> None:
        self._sent: dict[str, str] = {}
        self._taken: set[str] = set()
        for name in sorted(set(declared), key=lambda name: (_clean(name) != name, name)):
            self.sent(name)

    def sent(self, name: str) -> str:
        """Return the name to send for a caller's; always the same for the same."""
        if name not in self._sent:
            self._sent[name] = unique(_clean(name)[:LONGEST] or "tool", self._taken)
            self._taken.add(self._sent[name])
        return self._sent[name]

    @property
    def back(self) -> Mapping[str, str]:
        """The caller's names by the sent ones, where they differ."""
        return {sent: name for name, sent in self._sent.items() if sent != name}


def call_id(id_: str, taken: set[str]) -> str:
    """Return a tool call's id in Anthropic's letters, and take it."""
    found = unique(_clean(id_) or "call", taken)
    taken.add(found)
    return found


def unique(name: str, taken: set[str]) -> str:
    """Return the name, numbered where it is taken."""
    found, number = name, 2
    while found in taken:
        end = f"_{number}"
        found, number = name[: LONGEST - len(end)] + end, number + 1
    return found


def _clean(name: str) -> str:
    return _FOREIGN.sub("_", name)
