"""Reports of what was used, over HTTP: in one piece, or group by group as they are read."""

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

import msgspec
from litestar.params import QueryParameter

from api.download import Download
from api.edge import Edge
from api.in_time import STORE_S, in_time
from shared.jobs.terms import moment
from shared.ledger.usage_report import (
    PAGE,
    Report,
    as_csv,
    as_json,
    checked_groups,
    checked_only,
    checked_timezone,
    head_of,
    page_of,
)
from shared.store.engine import Tx
from shared.store.usage import Asked, GroupTotals

DEFAULT_SPAN = timedelta(days=30)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
REPORT_S = 12.0
"""How long the database may take over a piece of a report."""

Form = Annotated[Literal["json", "csv"], QueryParameter(description="With csv only the groups")]
Moment = Annotated[str | None, QueryParameter(description="RFC 3339 or epoch seconds")]
GroupBy = Annotated[
    str | None,
    QueryParameter(
        description="Such as `day,model`: of day, hour, tenant, key, user, route, provider, "
        "model, tag, tag:NAME and batch up to four"
    ),
]
Timezone = Annotated[
    str | None, QueryParameter(description="Whose days; by default the tenant's or billing's")
]
Only = Annotated[str | None, QueryParameter(description="Only of this one")]
OnlyTag = Annotated[str | None, QueryParameter(description="Only with this tag: name=value")]


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """A report's parameters as they came."""

    since: str | None
    until: str | None
    group_by: str | None
    timezone: str | None
    only: Mapping[str, str | None]
    is_csv: bool

    def of_tenant(self, tenant_id: str | None) -> "Query":
        """Return the same of one tenant; of all for None."""
        return msgspec.structs.replace(self, only={**self.only, "tenant": tenant_id})


def query_of(
    since: Moment = None,
    until: Moment = None,
    group_by: GroupBy = None,
    timezone: Timezone = None,
    key: Only = None,
    user: Only = None,
    route: Only = None,
    provider: Only = None,
    model: Only = None,
    batch: Only = None,
    tag: OnlyTag = None,
    format: Form = "json",  # noqa: A002 (the parameter's name)
) -> Query:
    """Return the parameters, unchecked."""
    only = {
        "key": key,
        "user": user,
        "route": route,
        "provider": provider,
        "model": model,
        "batch": batch,
        "tag": tag,
    }
    return Query(
        since=since,
        until=until,
        group_by=group_by,
        timezone=timezone,
        only=only,
        is_csv=format == "csv",
    )


async def answer(edge: Edge, query: Query) -> Download:
    """Return the report; what can be wrong with it is found before the first byte.

    Raises:
        InvalidRequest: a parameter is wrong.
        StoreUnavailable: the database is away.
    """
    groups = checked_groups(query.group_by)
    only = checked_only(query.only)
    timezone = checked_timezone(query.timezone, edge.runtime.config, only.get("tenant"))
    async with in_time(edge.clock, REPORT_S if groups else STORE_S):
        async with edge.runtime.store.read() as tx:
            asked = await _asked(tx, query, only)
            report = Report(asked=asked, groups=groups, timezone=timezone)
            head = {} if query.is_csv else await head_of(tx, report)
        if not (groups or query.is_csv):
            return _whole(edge, msgspec.json.encode(head))
        first = await page_of(edge.runtime.store, report, None)
    pages = _pages(edge, report, first)
    if query.is_csv:
        name = b'attachment; filename="usage.csv"'
        kind = [(b"content-type", b"text/csv; charset=utf-8"), (b"content-disposition", name)]
        return Download(as_csv(report, pages), size=None, headers=kind, clock=edge.clock)
    kind = [(b"content-type", b"application/json")]
    return Download(as_json(head, report, pages), size=None, headers=kind, clock=edge.clock)


def _whole(edge: Edge, body: bytes) -> Download:
    headers = [(b"content-type", b"application/json")]

    async def pieces() -> AsyncIterator[bytes]:
        yield body

    return Download(pieces(), size=len(body), headers=headers, clock=edge.clock)


async def _asked(tx: Tx, query: Query, only: Mapping[str, str]) -> Asked:
    now = await tx.now()
    # Before 1970 there is nothing, and the calendar ends soon after it.
    until = now if query.until is None else max(EPOCH, moment(query.until, "until"))
    asked = None if query.since is None else max(EPOCH, moment(query.since, "since"))
    since = until - DEFAULT_SPAN if asked is None else asked
    return Asked(since=since, until=until, only=only)


async def _pages(
    edge: Edge, report: Report, first: list[GroupTotals]
) -> AsyncIterator[list[GroupTotals]]:
    """Yield page by page, each read when the one before has been taken."""
    page = first
    while True:
        yield page
        if len(page) < PAGE:
            return
        async with in_time(edge.clock, REPORT_S):
            page = await page_of(edge.runtime.store, report, page[-1])
