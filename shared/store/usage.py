"""What was used, in groups: the ledger's sums and what the cache saved, side by side."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from shared.store.cache_hits import HOUR
from shared.store.columns import Words, micros
from shared.store.engine import Tx
from shared.store.ledger import COUNTED, SUMS, counted
from shared.store.money_tables import cache_hit, ledger

TIMES = ("day", "hour")
GROUPS = (*TIMES, "tenant", "key", "user", "route", "provider", "model", "tag", "batch")
"""What can be grouped by, beside `tag:NAME`: the values of one tag."""

TAG = "tag:"
SAVED = ("cache_hits", "saved_nanousd")

_COLUMNS = {
    "tenant": "tenant_id", "key": "key_id", "user": "user", "route": "route",
    "provider": "provider", "model": "model", "batch": "batch_id",
}  # fmt: skip
_OF_CACHE = frozenset({*TIMES, "tenant", "provider", "model"})
"""What is known of a kept answer's use."""
_HOUR_US = HOUR // timedelta(microseconds=1)
_DAY_US = 24 * _HOUR_US

Key = tuple[str | int, ...]
"""A group: microseconds for days and hours (a day's are the zone's), else words, none is ''."""
Shifts = Sequence[tuple[datetime, int]]
"""From which moment on clocks are ahead of UTC by how many seconds; the first from ever."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """Of which attempts, by when they ended: from `since` to just before `until`.

    `only` are wanted values by group; of `tag:NAME` too.
    """

    since: datetime
    until: datetime
    only: Mapping[str, str] = {}


class GroupTotals(msgspec.Struct, frozen=True, kw_only=True):
    """One group; what the cache saved is None where it cannot be told apart that far."""

    key: Key
    requests: int
    attempts: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    reasoning_tokens: int
    cost_nanousd: int
    unpriced_attempts: int
    estimated_attempts: int
    cache_hits: int | None
    saved_nanousd: int | None


async def grouped(
    tx: Tx,
    asked: Asked,
    groups: Sequence[str],
    shifts: Shifts,
    *,
    after: Key | None = None,
    limit: int | None = None,
) -> list[GroupTotals]:
    """Return up to `limit` groups in the order of their keys, from behind `after`.

    A request counts once in each group that it has an attempt in. By `tag` an attempt counts
    under each of its tags.
    """
    knows_cache = _OF_CACHE >= {*groups, *asked.only}
    parts = [_spent(tx, asked, groups, shifts, after)]
    if knows_cache:
        parts.append(_kept(asked, groups, shifts, after))
    both = sa.union_all(*parts).subquery()
    names = [both.c[f"group_{number}"] for number in range(len(groups))]
    totals = [sa.func.sum(both.c[name]).label(name) for name in (*COUNTED, *SAVED)]
    rows = await tx.connection.execute(
        sa.select(*names, *totals).group_by(*names).order_by(*names).limit(limit)
    )
    return [_totals(row, len(groups), knows_cache=knows_cache) for row in rows]


def _totals(row: sa.Row[Any], groups: int, *, knows_cache: bool) -> GroupTotals:
    hits, saved = int(row.cache_hits or 0), int(row.saved_nanousd or 0)
    return GroupTotals(
        key=tuple(row[:groups]),
        **counted(row),
        cache_hits=hits if knows_cache else None,
        saved_nanousd=saved if knows_cache else None,
    )


def _spent(
    tx: Tx, asked: Asked, groups: Sequence[str], shifts: Shifts, after: Key | None
) -> sa.Select[Any]:
    """Return the sums of the ledger's rows."""
    by_tag = "tag" in groups
    pairs = _tags(tx)

    def key(group: str) -> sa.ColumnElement[Any]:
        if group.startswith(TAG):
            named = sa.select(pairs.c.value).where(pairs.c.key == group.removeprefix(TAG))
            return _word(named.limit(1).scalar_subquery())
        if group == "tag":
            return _word(pairs.c.key + "=" + pairs.c.value)
        if group in TIMES:
            return _time(group, ledger.c.ended_at, shifts)
        return _word(ledger.c[_COLUMNS[group]])

    source = sa.outerjoin(ledger, pairs, sa.true()) if by_tag else ledger
    nothing = (sa.literal(0).label(name) for name in SAVED)
    return _summed(
        sa.select(*_labelled(map(key, groups)), *SUMS, *nothing)
        .select_from(source)
        .where(
            ledger.c.ended_at >= asked.since,
            ledger.c.ended_at < asked.until,
            *(
                # As it is, where it can be: for the index.
                (ledger.c[_COLUMNS[group]] if value and group in _COLUMNS else key(group)) == value
                for group, value in asked.only.items()
            ),
        ),
        [key(group) for group in groups],
        after,
    )


def _kept(asked: Asked, groups: Sequence[str], shifts: Shifts, after: Key | None) -> sa.Select[Any]:
    """Return the sums of what was answered from the cache, by whole hours."""

    def key(group: str) -> sa.ColumnElement[Any]:
        if group in TIMES:
            return _time(group, cache_hit.c.starts_at, shifts)
        return _word(cache_hit.c[_COLUMNS[group]])

    nothing = (sa.literal(0).label(name) for name in COUNTED)
    return _summed(
        sa.select(
            *_labelled(map(key, groups)),
            *nothing,
            sa.func.sum(cache_hit.c.hits).label("cache_hits"),
            sa.func.sum(cache_hit.c.saved_nanousd).label("saved_nanousd"),
        ).where(
            cache_hit.c.starts_at > asked.since - HOUR,
            cache_hit.c.starts_at < asked.until,
            *(cache_hit.c[_COLUMNS[group]] == value for group, value in asked.only.items()),
        ),
        [key(group) for group in groups],
        after,
    )


def _summed(
    query: sa.Select[Any], keys: Sequence[sa.ColumnElement[Any]], after: Key | None
) -> sa.Select[Any]:
    """Return the query by its groups, from behind a key."""
    if after is not None:
        values = [sa.literal(value, key.type) for key, value in zip(keys, after, strict=True)]
        query = query.where(sa.tuple_(*keys) > sa.tuple_(*values))
    # By name: of two equal expressions with parameters PostgreSQL cannot tell that they are equal.
    return query.group_by(*(sa.literal_column(f"group_{n}") for n in range(len(keys))))


def _labelled(keys: Iterable[sa.ColumnElement[Any]]) -> Iterator[sa.Label[Any]]:
    return (key.label(f"group_{number}") for number, key in enumerate(keys))


def _word(column: sa.ColumnElement[Any]) -> sa.ColumnElement[str]:
    return sa.func.coalesce(column, "", type_=Words)


def _time(group: str, column: sa.ColumnElement[datetime], shifts: Shifts) -> sa.ColumnElement[int]:
    """Return when the hour (UTC's) or the day (of the zone, in its own time) began."""
    at = sa.type_coerce(column, sa.BigInteger)
    if group == "hour":
        return at - at % _HOUR_US
    *earlier, (_, last_s) = shifts
    until = [moment for moment, _ in shifts[1:]]
    ahead: sa.ColumnElement[int] = _exact(last_s)
    if earlier:
        cases = [
            (at < micros(end), _exact(shift_s))
            for (_, shift_s), end in zip(earlier, until, strict=True)
        ]
        ahead = sa.case(*cases, else_=ahead)
    return (at + ahead) - (at + ahead) % _DAY_US


def _exact(seconds: int) -> sa.ColumnElement[int]:
    return sa.literal_column(str(seconds * 1_000_000), sa.BigInteger)


def _tags(tx: Tx) -> sa.TableValuedAlias:
    """Return the pairs of a row's tags, as a table beside the row."""
    tags: sa.ColumnElement[Any] = sa.type_coerce(ledger.c.tags, sa.Text)
    columns = sa.column("key", Words), sa.column("value", Words)
    if tx.backend == "sqlite":
        return sa.func.json_each(tags).table_valued(*columns, name="tags_of")
    # PostgreSQL refuses to read a NUL, which `Words` keeps out everywhere else.
    whole = sa.cast(sa.func.replace(tags, "\\u0000", "\\ufffd"), postgresql.JSON)
    return sa.func.json_each_text(whole).table_valued(*columns, name="tags_of")


async def late_costs(
    tx: Tx, tenant_id: str, since: datetime, *, limit: int
) -> list[tuple[str, str, int]]:
    """Return key, request and cost of a tenant's last attempts since then that have a price."""
    rows = await tx.connection.execute(
        sa.select(ledger.c.key_id, ledger.c.request_id, ledger.c.cost_nanousd)
        .where(
            ledger.c.tenant_id == tenant_id,
            ledger.c.ended_at >= since,
            ledger.c.cost_nanousd.is_not(None),
        )
        .order_by(ledger.c.ended_at.desc())
        .limit(limit)
    )
    return [(row.key_id, row.request_id, row.cost_nanousd) for row in rows]
