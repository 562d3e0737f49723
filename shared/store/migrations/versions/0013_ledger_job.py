"""The ledger's index of jobs leaves out calls that belong to none: most do not."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    of_job = sa.text("job_id IS NOT NULL")
    op.drop_index("ix_ledger_job", "ledger")
    op.create_index(
        "ix_ledger_job", "ledger", ["job_id"], postgresql_where=of_job, sqlite_where=of_job
    )


def downgrade() -> None:
    op.drop_index("ix_ledger_job", "ledger")
    op.create_index("ix_ledger_job", "ledger", ["job_id"])
