"""The tables, one schema for both databases. Only `shared.store` sees them.

A change here needs a migration in `migrations/versions` and its number in `REVISION`; a test
compares what the migrations build with what stands here.
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from shared.chat.usage import Usage
from shared.store.columns import Document, Moment, Words

REVISION = "0013"
"""The newest migration. Kept here so that a server need not load Alembic to check it."""

VERSION = sa.table("alembic_version", sa.column("version_num", sa.Text))

metadata = sa.MetaData()

LABELS = dict[str, str]


tenant = sa.Table(
    "tenant",
    metadata,
    sa.Column("id", Words, primary_key=True),
    sa.Column("webhook_secret", Words, nullable=False),
    sa.Column("created_at", Moment, nullable=False),
)

api_key = sa.Table(
    "api_key",
    metadata,
    sa.Column("id", Words, primary_key=True),
    sa.Column(
        "tenant_id", Words, sa.ForeignKey("tenant.id", name="fk_api_key_tenant"), nullable=False
    ),
    sa.Column("name", Words, nullable=False),
    sa.Column("key_hash", Words, nullable=False),
    sa.Column("hint", Words, nullable=False),
    sa.Column("scopes", Document(tuple[str, ...]), nullable=False),
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("expires_at", Moment),
    sa.Column("revoked_at", Moment),
    sa.UniqueConstraint("key_hash", name="uq_api_key_key_hash"),
    sa.Index("ix_api_key_tenant", "tenant_id", "created_at"),
)

job = sa.Table(
    "job",
    metadata,
    sa.Column("id", Words, primary_key=True),
    sa.Column("tenant_id", Words, nullable=False),
    sa.Column("key_id", Words, nullable=False),
    sa.Column("request_id", Words, nullable=False),
    sa.Column("endpoint", Words, nullable=False),
    sa.Column("priority", Words, nullable=False),
    sa.Column("metadata", Document(LABELS), nullable=False),
    sa.Column("tags", Document(LABELS), nullable=False),
    sa.Column("user", Words),
    sa.Column("webhook_url", Words),
    sa.Column("deadline", Moment, nullable=False),
    sa.Column("not_before", Moment),
    sa.Column("batch_id", Words),
    # Of a line of a batch: its place in the input file, from 1, and its caller's name for it.
    sa.Column("line_no", sa.Integer),
    sa.Column("custom_id", Words),
    # The public model asked for: what a claim asks the capacity of.
    sa.Column("model", Words),
    # Whether its events are kept in `job_event` while it runs.
    sa.Column("streamed", sa.Boolean, nullable=False),
    # Of a response that runs in the background: the id its caller knows it by.
    sa.Column("response_id", Words),
    # Headers of the caller that its provider is to see, such as `anthropic-beta`.
    sa.Column("headers", Document(LABELS), nullable=False),
    # Where a chain goes on when it runs again: what has failed for good, and what was tried.
    sa.Column("position", Document(dict[str, object])),
    # Why it waits: a code, for people.
    sa.Column("waits_for", Words),
    # Whether a spent budget fails the job or lets it wait.
    sa.Column("on_budget", Words),
    sa.Column("status", Words, nullable=False),
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("queued_at", Moment, nullable=False),
    sa.Column("started_at", Moment),
    sa.Column("cancelling_at", Moment),
    sa.Column("finished_at", Moment),
    sa.Column("attempts_spent", sa.Integer, nullable=False),
    sa.Column("deferrals", sa.Integer, nullable=False),
    sa.Column("recoveries", sa.Integer, nullable=False),
    sa.Column("lease_owner", Words),
    sa.Column("lease_token", sa.BigInteger, nullable=False),
    sa.Column("lease_until", Moment),
    sa.Column("response_status", sa.Integer),
    sa.Column("error", Document(dict[str, object])),
    sa.Column("usage", Document(Usage)),
    sa.Column("cost_nanousd", sa.BigInteger),
    # Where the answer lies when it is too large for `job_content`.
    sa.Column("result_key", Words),
    sa.Index("ix_job_tenant_created", "tenant_id", "created_at", "id"),
    sa.Index("ix_job_batch", "batch_id", "line_no", unique=True),
    sa.Index("ix_job_finished", "finished_at"),
    sa.Index("ix_job_response", "tenant_id", "response_id"),
)


def in_status(table: sa.Table, *names: str) -> sa.ColumnElement[bool]:
    """Return "the row's status is one of these", spelled out in the SQL.

    A planner uses a partial index only where it can see, without arguments, that the query's
    condition is the index's. The names come from this package, never from outside.
    """
    return table.c.status.in_([sa.literal_column(f"'{name}'", sa.Text) for name in names])


QUEUED = in_status(job, "queued")
SCHEDULED = in_status(job, "scheduled")
WAITING = in_status(job, "queued", "scheduled")
LEASED = in_status(job, "running", "cancelling")
OPEN = in_status(job, "queued", "scheduled", "running", "cancelling")


def _partial(name: str, condition: sa.ColumnElement[bool], *columns: sa.Column[Any]) -> sa.Index:
    return sa.Index(name, *columns, postgresql_where=condition, sqlite_where=condition)


# Final jobs are many and looked for by tenant only, so the other indexes leave them out.
_partial(
    "ix_job_claim",
    QUEUED,
    job.c.priority,
    job.c.tenant_id,
    job.c.deadline,
    job.c.created_at,
    job.c.id,
)
# For claims that leave models out.
_partial(
    "ix_job_model",
    QUEUED,
    job.c.priority,
    job.c.tenant_id,
    job.c.model,
    job.c.deadline,
    job.c.created_at,
    job.c.id,
)
_partial("ix_job_age", QUEUED, job.c.priority, job.c.queued_at)
_partial("ix_job_due", SCHEDULED, job.c.not_before)
_partial("ix_job_deadline", WAITING, job.c.deadline)
_partial("ix_job_lease", LEASED, job.c.lease_until)
_partial("ix_job_open", OPEN, job.c.tenant_id, job.c.batch_id)

# Apart from `job`, because every heartbeat rewrites that row and SQLite rewrites it whole.
job_content = sa.Table(
    "job_content",
    metadata,
    sa.Column(
        "job_id",
        Words,
        sa.ForeignKey("job.id", name="fk_job_content_job", ondelete="CASCADE"),
        primary_key=True,
    ),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("response_body", sa.LargeBinary),
)

tenant_turn = sa.Table(
    "tenant_turn",
    metadata,
    sa.Column("tenant_id", Words, primary_key=True),
    sa.Column("priority", Words, primary_key=True),
    sa.Column("served_at", Moment, nullable=False),
)

attempt = sa.Table(
    "attempt",
    metadata,
    sa.Column("id", Words, primary_key=True),
    sa.Column(
        "job_id",
        Words,
        sa.ForeignKey("job.id", name="fk_attempt_job", ondelete="CASCADE"),
        nullable=False,
    ),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("route", Words, nullable=False),
    sa.Column("provider", Words, nullable=False),
    sa.Column("model", Words, nullable=False),
    sa.Column("outcome", Words),
    sa.Column("code", Words),
    sa.Column("status_code", sa.Integer),
    sa.Column("message", Words),
    sa.Column("duration_ms", sa.BigInteger),
    sa.Column("started_at", Moment, nullable=False),
    sa.Column("opening", sa.LargeBinary, nullable=False),
    sa.Index("ix_attempt_job", "job_id", "started_at"),
)

# "event" is the word; as a table it stays clear of the SQL keyword.
webhook_event = sa.Table(
    "webhook_event",
    metadata,
    sa.Column("id", Words, primary_key=True),
    sa.Column("tenant_id", Words, nullable=False),
    sa.Column("type", Words, nullable=False),
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Index("ix_webhook_event_tenant", "tenant_id", "created_at"),
    sa.Index("ix_webhook_event_created", "created_at"),
)

delivery = sa.Table(
    "delivery",
    metadata,
    sa.Column("id", Words, primary_key=True),
    sa.Column(
        "event_id",
        Words,
        sa.ForeignKey("webhook_event.id", name="fk_delivery_event", ondelete="CASCADE"),
        nullable=False,
    ),
    sa.Column("tenant_id", Words, nullable=False),
    # None: a URL named in a request, not an endpoint of the tenant.
    sa.Column("endpoint_id", Words),
    sa.Column("url", Words, nullable=False),
    sa.Column("status", Words, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("next_at", Moment),
    sa.Column("lease_owner", Words),
    sa.Column("lease_token", sa.BigInteger, nullable=False),
    sa.Column("lease_until", Moment),
    sa.Column("last_status_code", sa.Integer),
    sa.Column("last_error", Words),
    sa.Index("ix_delivery_event", "event_id"),
    sa.Index("ix_delivery_endpoint", "endpoint_id", "id"),
)
PENDING = in_status(delivery, "pending")
DELIVERING = in_status(delivery, "delivering")
_partial("ix_delivery_due", PENDING, delivery.c.next_at)
_partial("ix_delivery_lease", DELIVERING, delivery.c.lease_until)

delivery_attempt = sa.Table(
    "delivery_attempt",
    metadata,
    sa.Column(
        "delivery_id",
        Words,
        sa.ForeignKey("delivery.id", name="fk_delivery_attempt_delivery", ondelete="CASCADE"),
        primary_key=True,
    ),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("at", Moment, nullable=False),
    sa.Column("status_code", sa.Integer),
    sa.Column("duration_ms", sa.BigInteger, nullable=False),
    sa.Column("error", Words),
    sa.Column("answer_head", sa.LargeBinary, nullable=False),
)

response = sa.Table(
    "response",
    metadata,
    sa.Column("tenant_id", Words, primary_key=True),
    sa.Column("id", Words, primary_key=True),
    sa.Column("previous_id", Words),
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("expires_at", Moment, nullable=False),
    # Deleted by its caller, but others go on from it.
    sa.Column("deleted_at", Moment),
    # Of its own content and of all that it goes on from: known before any of it is read.
    sa.Column("context_bytes", sa.BigInteger, nullable=False),
    sa.Column("input", sa.LargeBinary, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Index("ix_response_previous", "tenant_id", "previous_id"),
    sa.Index("ix_response_expires", "expires_at"),
)

lease = sa.Table(
    "lease",
    metadata,
    sa.Column("name", Words, primary_key=True),
    sa.Column("owner", Words),
    sa.Column("token", sa.BigInteger, nullable=False),
    sa.Column("until", Moment, nullable=False),
)


def revision_of(connection: Connection) -> str | None:
    """Return the schema's revision, None for a database without one."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    newest = connection.execute(sa.select(sa.func.max(VERSION.c.version_num))).scalar_one()
    return None if newest is None else str(newest)
