"""The tables around jobs: replayed answers, files, batches, kept events, endpoints, processes.

What `tables.py` says of a change holds here too.
"""

import sqlalchemy as sa

from shared.store.columns import Document, Moment, Words
from shared.store.tables import LABELS, in_status, metadata

# A request that its caller named with an Idempotency-Key, and what it was answered.
idempotency_key = sa.Table(
    "idempotency_key",
    metadata,
    sa.Column("tenant_id", Words, primary_key=True),
    # Method and path, such as `POST /v1/chat/completions`.
    sa.Column("route", Words, primary_key=True),
    sa.Column("key", Words, primary_key=True),
    sa.Column("fingerprint", Words, nullable=False),
    # Who is answering it, and until when that is believed; None once it is answered.
    sa.Column("owner", Words),
    sa.Column("locked_until", Moment),
    sa.Column("job_id", Words),
    sa.Column("status", sa.Integer),
    sa.Column("headers", Document(LABELS)),
    sa.Column("body", sa.LargeBinary),
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("expires_at", Moment, nullable=False),
    sa.Index("ix_idempotency_key_expires", "expires_at"),
)

file = sa.Table(
    "file",
    metadata,
    sa.Column("id", Words, primary_key=True),
    sa.Column("tenant_id", Words, nullable=False),
    sa.Column("purpose", Words, nullable=False),
    sa.Column("filename", Words, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("status", Words, nullable=False),
    # Its name in the object store.
    sa.Column("object_key", Words, nullable=False),
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("expires_at", Moment),
    sa.Index("ix_file_tenant", "tenant_id", "created_at", "id"),
    sa.Index("ix_file_expires", "expires_at"),
)
FILE_UNSEEN = in_status(file, "storing", "deleting")
sa.Index(
    "ix_file_unseen", file.c.created_at, postgresql_where=FILE_UNSEEN, sqlite_where=FILE_UNSEEN
)

# A file that comes in parts.
upload = sa.Table(
    "upload",
    metadata,
    sa.Column("id", Words, primary_key=True),
    sa.Column("tenant_id", Words, nullable=False),
    sa.Column("purpose", Words, nullable=False),
    sa.Column("filename", Words, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("mime_type", Words, nullable=False),
    sa.Column("status", Words, nullable=False),
    sa.Column("file_id", Words),
    sa.Column("file_expires_after_s", sa.Integer),
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("expires_at", Moment, nullable=False),
    sa.Index("ix_upload_expires", "expires_at"),
)

upload_part = sa.Table(
    "upload_part",
    metadata,
    sa.Column("id", Words, primary_key=True),
    sa.Column(
        "upload_id",
        Words,
        sa.ForeignKey("upload.id", name="fk_upload_part_upload", ondelete="CASCADE"),
        nullable=False,
    ),
    # None while they arrive.
    sa.Column("bytes", sa.BigInteger),
    sa.Column("object_key", Words, nullable=False),
    sa.Column("created_at", Moment, nullable=False),
    sa.Index("ix_upload_part_upload", "upload_id"),
)

batch = sa.Table(
    "batch",
    metadata,
    sa.Column("id", Words, primary_key=True),
    sa.Column("tenant_id", Words, nullable=False),
    sa.Column("key_id", Words, nullable=False),
    sa.Column("request_id", Words, nullable=False),
    sa.Column("endpoint", Words, nullable=False),
    sa.Column("input_file_id", Words, nullable=False),
    sa.Column("completion_window", Words, nullable=False),
    # Of its lines: whether a spent budget fails them or lets them wait.
    sa.Column("on_budget", Words),
    sa.Column("metadata", Document(LABELS), nullable=False),
    sa.Column("tags", Document(LABELS), nullable=False),
    sa.Column("user", Words),
    sa.Column("model", Words),
    sa.Column("status", Words, nullable=False),
    sa.Column("errors", Document(list[dict[str, object]])),
    sa.Column("output_file_id", Words),
    sa.Column("error_file_id", Words),
    sa.Column("output_expires_after_s", sa.Integer),
    # Lines in the input file, known once it has been read; lines that are jobs already.
    sa.Column("lines_total", sa.Integer, nullable=False),
    sa.Column("lines_made", sa.Integer, nullable=False),
    # Where the reading of the input file goes on.
    sa.Column("input_offset", sa.BigInteger, nullable=False),
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("expires_at", Moment, nullable=False),
    sa.Column("in_progress_at", Moment),
    sa.Column("finalizing_at", Moment),
    sa.Column("completed_at", Moment),
    sa.Column("failed_at", Moment),
    sa.Column("expired_at", Moment),
    sa.Column("cancelling_at", Moment),
    sa.Column("cancelled_at", Moment),
    # Sums over its lines, filled in when it ends: the lines' own rows may be pruned later.
    sa.Column("completed", sa.Integer),
    sa.Column("failed", sa.Integer),
    sa.Column("usage", Document(dict[str, object])),
    sa.Column("cost_nanousd", sa.BigInteger),
    sa.Column("lease_owner", Words),
    sa.Column("lease_token", sa.BigInteger, nullable=False),
    sa.Column("lease_until", Moment),
    sa.Index("ix_batch_tenant", "tenant_id", "created_at", "id"),
)
BATCH_OPEN = in_status(batch, "validating", "in_progress", "finalizing", "cancelling")
sa.Index("ix_batch_open", batch.c.created_at, postgresql_where=BATCH_OPEN, sqlite_where=BATCH_OPEN)

# Events of a streamed job, several a row, as they go out over SSE. `token` is the lease under
# which they were made: one job never has those of two generations.
job_event = sa.Table(
    "job_event",
    metadata,
    sa.Column(
        "job_id",
        Words,
        sa.ForeignKey("job.id", name="fk_job_event_job", ondelete="CASCADE"),
        primary_key=True,
    ),
    sa.Column("first_no", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("last_no", sa.Integer, nullable=False),
    sa.Column("token", sa.BigInteger, nullable=False),
    sa.Column("events", sa.LargeBinary, nullable=False),
    sa.Column("created_at", Moment, nullable=False),
)

webhook_endpoint = sa.Table(
    "webhook_endpoint",
    metadata,
    sa.Column("id", Words, primary_key=True),
    sa.Column("tenant_id", Words, nullable=False),
    sa.Column("name", Words, nullable=False),
    # `https://...`, or the ARN of an SNS topic.
    sa.Column("url", Words, nullable=False),
    sa.Column("event_types", Document(tuple[str, ...]), nullable=False),
    sa.Column("secret", Words, nullable=False),
    sa.Column("old_secret", Words),
    sa.Column("old_secret_until", Moment),
    sa.Column("concurrency", sa.Integer, nullable=False),
    # Since its last success: when the first failure came, and how many there were.
    sa.Column("failing_since", Moment),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("disabled_at", Moment),
    sa.Column("disabled_why", Words),
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("updated_at", Moment),
    sa.Index("ix_webhook_endpoint_tenant", "tenant_id", "created_at"),
)

# What an operator has told the queue: `class:batch` or `tenant:acme` is not claimed for now.
queue_pause = sa.Table(
    "queue_pause",
    metadata,
    sa.Column("scope", Words, primary_key=True),
    sa.Column("reason", Words),
    sa.Column("since", Moment, nullable=False),
)

# The workers that live, as they say themselves; one that is told to drain claims no more.
worker = sa.Table(
    "worker",
    metadata,
    sa.Column("owner", Words, primary_key=True),
    sa.Column("host", Words, nullable=False),
    sa.Column("started_at", Moment, nullable=False),
    sa.Column("seen_at", Moment, nullable=False),
    sa.Column("slots", sa.Integer, nullable=False),
    sa.Column("running", sa.Integer, nullable=False),
    sa.Column("drain_at", Moment),
)
