"""Ledger rows that correct others, name their price's edition and their batch."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

COLUMNS = ("price_version", "adjusts", "reason", "batch_id")
COUNTS = ("web_searches", "cache_read_audio_tokens")


def upgrade() -> None:
    for name in COLUMNS:
        op.add_column("ledger", sa.Column(name, sa.Text()))
    for name in COUNTS:
        op.add_column(
            "ledger", sa.Column(name, sa.BigInteger(), nullable=False, server_default="0")
        )
    op.add_column("ledger", sa.Column("budgets", sa.Text(), nullable=False, server_default="[]"))
    corrects = sa.text("adjusts IS NOT NULL")
    op.create_index(
        "ix_ledger_adjusts",
        "ledger",
        ["adjusts"],
        postgresql_where=corrects,
        sqlite_where=corrects,
    )


def downgrade() -> None:
    op.drop_index("ix_ledger_adjusts", "ledger")
    for name in (*COLUMNS, *COUNTS, "budgets"):
        op.drop_column("ledger", name)
