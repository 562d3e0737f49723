"""What calls gave back, summed by scope until Redis has it."""

from collections.abc import Sequence

import msgspec

from shared.limits.limiter import Scope
from shared.limits.rules import Demand

MAX_SCOPES = 50_000
"""In a long outage only; the oldest go first, and their buckets are the fullest by then."""

MAX_SLOTS = 1000
"""For each scope; those of an outage end by their leases anyhow."""

MAX_ENDED = 256
"""Tuples of scopes whose calls are summed apart from the rows."""


class Row(msgspec.Struct, eq=False, gc=False):
    """The changes of one scope: what to add to its buckets, and the slots that ended."""

    scope: Scope
    requests: float
    tokens: float
    slots: list[str]


class _Ended(msgspec.Struct, eq=False, gc=False):
    """Calls of one tuple of scopes that have ended, summed."""

    scopes: tuple[Scope, ...]
    requests: int
    tokens: int
    slots: list[str]


class Owed:
    """Changes that wait to be sent, one row for each scope. Empty is falsy."""

    def __init__(self) -> None:
        self._rows: dict[str, Row] = {}
        self._ended: dict[int, _Ended] = {}
        """Not in the rows yet; by the `id` of their scopes, which they keep alive."""

    def __bool__(self) -> bool:
        return bool(self._ended or self._rows)

    def end(self, scopes: tuple[Scope, ...], slot: str, requests: int, tokens: int) -> None:
        """Add what one call gives back to each of its scopes.

        The same as an `add` for each of them, done once for all calls that share the tuple.
        """
        ended = self._ended.get(id(scopes))
        if ended is None:
            if len(self._ended) >= MAX_ENDED:
                self._sum_up()
            ended = self._ended[id(scopes)] = _Ended(scopes, 0, 0, [])
        if requests:
            ended.requests += requests
        ended.tokens += tokens
        slots = ended.slots
        slots.append(slot)
        if len(slots) >= MAX_SLOTS:
            self._sum_up()

    def add(self, scope: Scope, change: Demand, slots: Sequence[str] = ()) -> None:
        """Add to a scope's row."""
        self._add(scope, change.requests, change.tokens, slots)

    def _add(self, scope: Scope, requests: float, tokens: float, slots: Sequence[str]) -> None:
        """Do so; slots of a scope without concurrency are nobody's business."""
        if scope.limits.concurrency is None:
            slots = ()
        row = self._rows.get(scope.name)
        if row is None:
            self._rows[scope.name] = Row(scope, requests, tokens, [*slots[-MAX_SLOTS:]])
            if len(self._rows) > MAX_SCOPES:
                del self._rows[next(iter(self._rows))]
        else:
            row.requests += requests
            row.tokens += tokens
            row.slots += slots
            del row.slots[:-MAX_SLOTS]

    def cut(self, most: int) -> list[Row]:
        """Take out the oldest rows."""
        self._sum_up()
        if len(self._rows) <= most:
            rows, self._rows = self._rows, {}
            return list(rows.values())
        names = list(self._rows)[:most]
        return [self._rows.pop(name) for name in names]

    def put_back(self, rows: Sequence[Row]) -> None:
        """Take rows back that did not arrive."""
        for row in rows:
            self._add(row.scope, row.requests, row.tokens, row.slots)

    def _sum_up(self) -> None:
        """Put what has ended into the rows of its scopes."""
        ended, self._ended = self._ended, {}
        for one in ended.values():
            for scope in one.scopes:
                self._add(scope, one.requests, one.tokens, one.slots)
