"""Jobs that stream, belong to batches, know why they wait; pauses of the queue; workers."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

QUEUED_INDEXES = {
    "ix_job_model": ["priority", "tenant_id", "model", "deadline", "created_at", "id"],
    "ix_job_age": ["priority", "queued_at"],
}


def upgrade() -> None:
    op.add_column("job", sa.Column("line_no", sa.Integer()))
    op.add_column("job", sa.Column("custom_id", sa.Text()))
    op.add_column("job", sa.Column("model", sa.Text()))
    op.add_column(
        "job", sa.Column("streamed", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    op.add_column("job", sa.Column("response_id", sa.Text()))
    op.add_column("job", sa.Column("headers", sa.Text(), nullable=False, server_default="{}"))
    op.add_column("job", sa.Column("position", sa.Text()))
    op.add_column("job", sa.Column("waits_for", sa.Text()))
    op.add_column("job", sa.Column("on_budget", sa.Text()))
    op.add_column("job", sa.Column("result_key", sa.Text()))
    op.create_index("ix_job_batch", "job", ["batch_id", "line_no"], unique=True)
    op.create_index("ix_job_finished", "job", ["finished_at"])
    op.drop_index("ix_job_open", "job")
    _index_open("tenant_id", "batch_id")
    op.create_index("ix_job_response", "job", ["tenant_id", "response_id"])
    queued = sa.text("status IN ('queued')")
    for name, columns in QUEUED_INDEXES.items():
        op.create_index(name, "job", columns, postgresql_where=queued, sqlite_where=queued)
    op.create_table(
        "queue_pause",
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("scope"),
    )
    op.create_table(
        "worker",
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.Column("running", sa.Integer(), nullable=False),
        sa.Column("drain_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("owner"),
    )


def _index_open(*columns: str) -> None:
    condition = sa.text("status IN ('queued', 'scheduled', 'running', 'cancelling')")
    op.create_index(
        "ix_job_open", "job", columns, postgresql_where=condition, sqlite_where=condition
    )


def downgrade() -> None:
    op.drop_table("worker")
    op.drop_table("queue_pause")
    for index in ("ix_job_batch", "ix_job_finished", "ix_job_response", *QUEUED_INDEXES):
        op.drop_index(index, "job")
    op.drop_index("ix_job_open", "job")
    _index_open("tenant_id")
    op.drop_column("job", "result_key")
    op.drop_column("job", "on_budget")
    op.drop_column("job", "waits_for")
    op.drop_column("job", "position")
    op.drop_column("job", "headers")
    op.drop_column("job", "response_id")
    op.drop_column("job", "streamed")
    op.drop_column("job", "model")
    op.drop_column("job", "custom_id")
    op.drop_column("job", "line_no")
