"""Events of streamed jobs."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "job_event",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("first_no", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("last_no", sa.Integer(), nullable=False),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.Column("events", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"], ["job.id"], name="fk_job_event_job", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job_id", "first_no"),
    )


def downgrade() -> None:
    op.drop_table("job_event")
