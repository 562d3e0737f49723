"""Who waits in the queue of a class, the tenant served longest ago first."""

from collections.abc import Collection, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from shared.store.engine import Tx
from shared.store.tables import LEASED, QUEUED, job, tenant_turn

MOST_LINES = 128
"""Lines one claim looks at, where a tenant has one for each model; the most urgent ones first."""


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """The queue of a tenant, or `by_model` the part of it that asks for one model or for none.

    `room` is how many more jobs its tenant may run; None is no bound.
    """

    tenant_id: str
    by_model: bool = False
    model: str | None = None
    room: int | None = None

    def conditions(self) -> tuple[sa.ColumnElement[bool], ...]:
        """Return what the line's jobs have in common."""
        mine = job.c.tenant_id == self.tenant_id
        if not self.by_model:
            return (mine,)
        return mine, job.c.model.is_(None) if self.model is None else job.c.model == self.model

    def after(self, taken: int) -> "Line":
        """Return the line once so many more jobs of its tenant run."""
        if self.room is None:
            return self
        return msgspec.structs.replace(self, room=self.room - taken)


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which tenants: at most `tenants`, and not these; which of their jobs: not of these models.

    A tenant that has `most_running` jobs running is left out.
    """

    tenants: int
    without_models: Collection[str] = ()
    without_tenants: Collection[str] = ()
    most_running: int | None = None


async def waiting_lines(tx: Tx, priority: str, wanted: Wanted) -> list[Line]:
    """Return the lines of tenants with queued jobs of the class.

    Hops from tenant to tenant through an index, whatever the number of their jobs; where some
    models are left out, also from model to model. Passing over their jobs one by one would take
    long just when very many wait for a provider.
    """
    tenants = _tenants(priority)
    turn = (tenant_turn.c.tenant_id == tenants.c.tenant_id) & (tenant_turn.c.priority == priority)
    found: sa.FromClause = tenants.outerjoin(tenant_turn, turn)
    model: sa.ColumnElement[Any] = sa.null()
    conditions: list[sa.ColumnElement[bool]] = [tenants.c.tenant_id.is_not(None)]
    order: list[sa.ColumnElement[Any]] = [
        tenant_turn.c.served_at.asc().nulls_first(),
        tenants.c.tenant_id,
    ]
    if wanted.without_tenants:
        conditions.append(tenants.c.tenant_id.not_in(sorted(wanted.without_tenants)))
    if wanted.without_models:
        kinds = _kinds(priority, tenants, wanted.without_models)
        found = found.join(kinds, kinds.c.tenant_id == tenants.c.tenant_id)
        model = kinds.c.model
        order.append(kinds.c.deadline)
    if wanted.most_running is not None:
        running = _running()
        found = found.outerjoin(running, running.c.tenant_id == tenants.c.tenant_id)
        conditions.append(sa.func.coalesce(running.c.number, 0) < wanted.most_running)
    rows = await tx.connection.execute(
        sa.select(tenants.c.tenant_id, model.label("model"))
        .select_from(found)
        .where(*conditions)
        .order_by(*order)
        .limit(max(wanted.tenants, MOST_LINES) if wanted.without_models else wanted.tenants)
    )
    by_model = bool(wanted.without_models)
    every = [Line(tenant_id=row.tenant_id, by_model=by_model, model=row.model) for row in rows]
    lines = _of_first(every, wanted)
    return lines if wanted.most_running is None else await _with_room(tx, lines, wanted)


def _of_first(lines: Sequence[Line], wanted: Wanted) -> list[Line]:
    first = list(dict.fromkeys(line.tenant_id for line in lines))[: wanted.tenants]
    return [line for line in lines if line.tenant_id in first]


async def _with_room(tx: Tx, lines: Sequence[Line], wanted: Wanted) -> list[Line]:
    """Return the lines with their room, of those tenants that nobody else claims for just now.

    Two claims that count before either commits would pass the bound together.
    """
    tenants = sorted({line.tenant_id for line in lines})
    if tx.backend == "postgresql" and tenants:
        listed = sa.values(sa.column("id", sa.Text), name="listed").data(
            [(id_,) for id_ in tenants]
        )
        alone = sa.func.pg_try_advisory_xact_lock(sa.func.hashtextextended(listed.c.id, 0))
        locked = await tx.connection.execute(sa.select(listed.c.id, alone.label("alone")))
        tenants = [row.id for row in locked if row.alone]
    running = _running()
    counted = await tx.connection.execute(
        sa.select(running).where(running.c.tenant_id.in_(tenants))
    )
    numbers = {row.tenant_id: row.number for row in counted}
    most = wanted.most_running or 0
    rooms = {name: most - numbers.get(name, 0) for name in tenants}
    return [
        msgspec.structs.replace(line, room=rooms[line.tenant_id])
        for line in lines
        if rooms.get(line.tenant_id, 0) > 0
    ]


def _tenants(priority: str) -> sa.CTE:
    """Return the tenants with queued jobs, and NULL behind the last."""
    queued = (QUEUED, job.c.priority == priority)
    hop = (
        sa.select(sa.func.min(job.c.tenant_id).label("tenant_id"))
        .where(*queued)
        .cte("waiting", recursive=True)
    )
    following = (
        sa.select(sa.func.min(job.c.tenant_id))
        .where(*queued, job.c.tenant_id > hop.c.tenant_id)
        .scalar_subquery()
    )
    return hop.union_all(sa.select(following).where(hop.c.tenant_id.is_not(None)))


def _kinds(priority: str, tenants: sa.CTE, without: Collection[str]) -> sa.Subquery:
    """Return each tenant's models but those, with their first deadlines; NULL for jobs without."""
    models = _models(priority, tenants)
    first = sa.func.min(job.c.deadline)
    named = sa.select(
        models.c.tenant_id,
        models.c.model,
        _of_tenant(priority, first, models, job.c.model == models.c.model).label("deadline"),
    ).where(models.c.model.is_not(None), models.c.model.not_in(sorted(without)))
    unnamed = sa.select(
        tenants.c.tenant_id,
        sa.cast(sa.null(), sa.Text),
        _of_tenant(priority, first, tenants, job.c.model.is_(None)),
    )
    every = sa.union_all(named, unnamed).subquery("every")
    return sa.select(every).where(every.c.deadline.is_not(None)).subquery("kinds")


def _models(priority: str, tenants: sa.CTE) -> sa.CTE:
    """Return the models of each tenant's queued jobs, and NULL behind the last."""
    first = _of_tenant(priority, sa.func.min(job.c.model), tenants).label("model")
    hop = (
        sa.select(tenants.c.tenant_id, first)
        .where(tenants.c.tenant_id.is_not(None))
        .cte("models", recursive=True)
    )
    following = _of_tenant(priority, sa.func.min(job.c.model), hop, job.c.model > hop.c.model)
    return hop.union_all(sa.select(hop.c.tenant_id, following).where(hop.c.model.is_not(None)))


def _of_tenant(
    priority: str,
    value: sa.ColumnElement[Any],
    tenants: sa.CTE,
    *conditions: sa.ColumnElement[bool],
) -> sa.ScalarSelect[Any]:
    mine = (QUEUED, job.c.priority == priority, job.c.tenant_id == tenants.c.tenant_id)
    return sa.select(value).where(*mine, *conditions).scalar_subquery()


def _running() -> sa.Subquery:
    """Return how many jobs of each tenant run, counted from their rows."""
    # As an expression, or SQLite goes through every job there ever was in the order of tenants.
    tenant_id = (job.c.tenant_id + "").label("tenant_id")
    return (
        sa.select(tenant_id, sa.func.count().label("number"))
        .where(LEASED)
        .group_by(tenant_id)
        .subquery("running")
    )
