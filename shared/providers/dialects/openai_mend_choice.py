"""What a mended stream has shown of one choice, so that its parts open once and end once."""

from collections.abc import Mapping
from typing import Any


class ChoiceState:
    """What has been seen of one choice of a stream."""

    def __init__(self) -> None:
        self.opened = False
        self.finished = False
        self.empty_finish = False
        self._places: dict[object, int] = {}
        self._ids: dict[int, object] = {}

    @property
    def owes_finish(self) -> bool:
        """Whether its provider finished it with an empty word and said no more."""
        return self.empty_finish and not self.finished

    @property
    def likely_finish(self) -> str:
        """The word that was most likely meant."""
        return "tool_calls" if self._ids else "stop"

    def place(self, call: Mapping[str, Any]) -> tuple[int, bool]:
        """Return the index of an entry's call, counted from 0, and whether the entry opens it."""
        own, identity = call.get("index"), call.get("id") or None
        own = own if isinstance(own, int) else None
        known = self._places.get(own)
        opens = known is None
        if known is not None and identity is not None and self._ids[known] != identity:
            # Two calls with one index (or none), told apart by their ids only.
            opens = identity not in self._ids.values()
            known = None if opens else _key_of(self._ids, identity)
        if own is None and identity is None and self._ids:
            known, opens = max(self._ids), False
        if not opens and known is not None:
            return known, False
        index = len(self._ids)
        self._places[own] = index
        self._ids[index] = identity
        return index, True


def _key_of(ids: Mapping[int, object], identity: object) -> int:
    return next(index for index, known in ids.items() if known == identity)
