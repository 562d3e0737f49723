"""What was used, as asked for: in which groups, of whom, in which words."""

import csv
import io
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import msgspec

from shared.config.formats import timezone
from shared.config.model import Config
from shared.errors import InvalidRequest
from shared.ledger.cost import usd_text
from shared.store.cache_hits import CacheTotals, cache_totals
from shared.store.columns import EPOCH, moment_of
from shared.store.engine import Store, Tx
from shared.store.usage import GROUPS, TAG, Asked, GroupTotals, Shifts, grouped

PAGE = 1000
"""Groups that are read at once: a report of any length takes the memory of so many."""
MOST_GROUPS = 4
LONGEST_TAG = 64
BY_MODEL = ("provider", "model")
FILTERS = ("tenant", "key", "user", "route", "provider", "model", "batch", "tag")

COUNTS = (
    "requests", "attempts", "input_tokens", "output_tokens", "cache_read_tokens",
    "reasoning_tokens", "cost_usd", "cost_nanousd", "unpriced_attempts", "estimated_attempts",
    "cache_hits", "saved_usd", "saved_nanousd",
)  # fmt: skip
"""What is told of each group, in this order."""

_FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""How cells begin that spreadsheets run; the last four are the wide forms of the first."""

_PROBE = timedelta(days=7)
_SECOND = timedelta(seconds=1)
_FIRST, _LAST = datetime(2020, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for. Days are those of the time zone, hours UTC's."""

    asked: Asked
    groups: tuple[str, ...] = ()
    timezone: str = "UTC"

    @property
    def shifts(self) -> Shifts:
        """How far the zone's clocks are ahead of UTC, over the span."""
        if "day" not in self.groups:
            return ((EPOCH, 0),)
        return shifts_of(ZoneInfo(self.timezone), self.asked.since, self.asked.until)


def checked_groups(text: str | None) -> tuple[str, ...]:
    """Return the groups of `day,model,tag:team`, each once.

    Raises:
        InvalidRequest: there is no such group, or there are more than four.
    """
    if text is None:
        return ()
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        of_tag = name.startswith(TAG) and 0 < len(name) - len(TAG) <= LONGEST_TAG
        if name not in GROUPS and not of_tag:
            raise InvalidRequest(
                f"group_by takes {', '.join(GROUPS)} and tag:NAME, with commas between.",
                param="group_by",
            )
    if len(names) > MOST_GROUPS:
        raise InvalidRequest(f"group_by takes at most {MOST_GROUPS} groups.", param="group_by")
    return names


def checked_only(wanted: Mapping[str, str | None]) -> dict[str, str]:
    """Return the filters that are given; a tag is `name=value`.

    Raises:
        InvalidRequest: the tag is something else.
    """
    only = {name: value for name, value in wanted.items() if value is not None}
    tag = only.pop("tag", None)
    if tag is not None:
        name, equals, value = tag.partition("=")
        if not (equals and name and value):
            raise InvalidRequest("tag must be name=value.", param="tag")
        only[TAG + name] = value
    return only


def checked_timezone(name: str | None, config: Config, tenant_id: str | None) -> str:
    """Return the time zone; without a name the tenant's, else that of billing.

    Raises:
        InvalidRequest: there is none of that name.
    """
    if name is None:
        own = [one.timezone for one in config.tenants if one.id == tenant_id]
        return (own[0] if own else None) or config.billing.timezone
    try:
        return timezone(name)
    except ValueError as error:
        raise InvalidRequest(f"timezone {error}.", param="timezone") from error


def shifts_of(zone: ZoneInfo, since: datetime, until: datetime) -> Shifts:
    """Return from when on the zone's clocks are how many seconds ahead of UTC, in that span.

    Changes before 2020 or after 2100 are left out: nothing was used then.
    """
    since, until = (min(max(at, _FIRST), _LAST) for at in (since, until))
    found = [(since, _ahead_s(since, zone))]
    at = since
    while at < until:
        after = min(at + _PROBE, until)
        if _ahead_s(after, zone) != found[-1][1]:
            change = _change(zone, at, after)
            found.append((change, _ahead_s(change, zone)))
        at = after
    return found


def _change(zone: ZoneInfo, before: datetime, after: datetime) -> datetime:
    """Return the first second at which clocks show what they show `after`."""
    first, last = int(before.timestamp()), int(after.timestamp())
    shown = _ahead_s(after, zone)
    while last - first > 1:
        middle = (first + last) // 2
        if _ahead_s(datetime.fromtimestamp(middle, UTC), zone) == shown:
            last = middle
        else:
            first = middle
    return datetime.fromtimestamp(last, UTC)


def _ahead_s(at: datetime, zone: ZoneInfo) -> int:
    return (at.astimezone(zone).utcoffset() or timedelta()) // _SECOND


async def totals_of(tx: Tx, asked: Asked) -> GroupTotals:
    """Return the sums of all that is asked for, as one group without a name."""
    return (await grouped(tx, asked, (), ((EPOCH, 0),)))[0]


async def head_of(tx: Tx, report: Report) -> dict[str, object]:
    """Return what stands before the groups; by model where no groups are asked for."""
    asked = report.asked
    tenant_id = asked.only.get("tenant")
    totals = await totals_of(tx, asked)
    head: dict[str, object] = {
        "object": "usage",
        "tenant": tenant_id,
        "since": int(asked.since.timestamp()),
        "until": int(asked.until.timestamp()),
        "timezone": report.timezone,
        "group_by": report.groups,
        **counts_of(totals),
    }
    if asked.only.keys() <= {"tenant"}:
        head["cache"] = _cached(await cache_totals(tx, tenant_id, asked.since, asked.until))
    if not report.groups:
        by_model = Report(asked=asked, groups=BY_MODEL)
        rows = await grouped(tx, asked, BY_MODEL, by_model.shifts, limit=PAGE)
        head["by_model"] = [told(by_model, row) for row in rows]
    return head


def _cached(totals: CacheTotals) -> dict[str, object]:
    return {
        "hits": totals.hits,
        "input_tokens": totals.input_tokens,
        "output_tokens": totals.output_tokens,
        "saved_usd": usd_text(totals.saved_nanousd),
        "saved_nanousd": totals.saved_nanousd,
    }


async def page_of(store: Store, report: Report, after: GroupTotals | None) -> list[GroupTotals]:
    """Return the groups behind that one; fewer than PAGE: there are no more.

    Raises:
        StoreUnavailable: the database is away.
    """
    async with store.read() as tx:
        return await grouped(
            tx,
            report.asked,
            report.groups,
            report.shifts,
            after=None if after is None else after.key,
            limit=PAGE,
        )


async def pages_of(store: Store, report: Report) -> AsyncIterator[list[GroupTotals]]:
    """Yield all groups, each page read when the one before has been taken.

    Raises:
        StoreUnavailable: the database is away.
    """
    page = await page_of(store, report, None)
    yield page
    while len(page) == PAGE:
        page = await page_of(store, report, page[-1])
        yield page


def words_of(report: Report, row: GroupTotals) -> dict[str, str | None]:
    """Return a group's values: days as 2026-03-05, hours as 2026-03-05T09:00:00Z."""
    return {group: _word(group, value) for group, value in zip(report.groups, row.key, strict=True)}


def _word(group: str, value: str | int) -> str | None:
    if isinstance(value, str):
        return value or None
    began = moment_of(value)
    return f"{began:%Y-%m-%d}" if group == "day" else f"{began:%Y-%m-%dT%H:%M:%SZ}"


def counts_of(row: GroupTotals) -> dict[str, int | str | None]:
    """Return what is told of a group; money also as decimal text."""
    saved = row.saved_nanousd
    usd = {
        "cost_usd": usd_text(row.cost_nanousd),
        "saved_usd": None if saved is None else usd_text(saved),
    }
    return {name: usd[name] if name in usd else getattr(row, name) for name in COUNTS}


def told(report: Report, row: GroupTotals) -> dict[str, int | str | None]:
    """Return a group as a JSON object."""
    return {**words_of(report, row), **counts_of(row)}


async def as_csv(report: Report, pages: AsyncIterator[list[GroupTotals]]) -> AsyncIterator[bytes]:
    """Yield the report as CSV, a head first; cells that spreadsheets would run are quoted."""
    yield _csv([(*report.groups, *COUNTS)])
    async for page in pages:
        yield _csv(_cells(report, page))


def _cells(report: Report, page: Iterable[GroupTotals]) -> Iterator[Sequence[object]]:
    for row in page:
        words = (safe(word or "") for word in words_of(report, row).values())
        yield (*words, *("" if one is None else one for one in counts_of(row).values()))


def _csv(rows: Iterable[Sequence[object]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode("utf-8", "replace")


def safe(word: str) -> str:
    """Return a cell's text so that no spreadsheet takes it for a formula."""
    return f"'{word}" if word.startswith(_FORMULAS) else word


async def as_json(
    head: Mapping[str, object], report: Report, pages: AsyncIterator[list[GroupTotals]]
) -> AsyncIterator[bytes]:
    """Yield the report as one JSON object: the head, and the groups as `data`."""
    encode = msgspec.json.encode
    between = encode(head).removesuffix(b"}") + (b"," if head else b"") + b'"data":['
    async for page in pages:
        for row in page:
            yield between + encode(told(report, row))
            between = b","
    yield (between if between != b"," else b"") + b"]}"
