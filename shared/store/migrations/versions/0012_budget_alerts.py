"""Limits raised for a while, what has been told of budgets, windows longer than an hour."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "budget_raise",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("budget_id", sa.Text(), nullable=False),
        sa.Column("amount_nanousd", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_budget_raise_expires", "budget_raise", ["expires_at"])
    op.create_table(
        "budget_alert",
        sa.Column("budget_id", sa.Text(), nullable=False),
        sa.Column("starts_at", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("threshold", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("budget_id", "starts_at", "kind", "threshold"),
    )
    op.create_index("ix_budget_window_starts", "budget_window", ["starts_at"])
    # All windows so far are hours.
    op.add_column(
        "spend_window", sa.Column("ends_at", sa.BigInteger(), nullable=False, server_default="0")
    )
    op.add_column(
        "spend_window", sa.Column("timezone", sa.Text(), nullable=False, server_default="UTC")
    )
    op.execute("UPDATE spend_window SET ends_at = starts_at + 3600000000")
    op.create_index("ix_spend_window_closed", "spend_window", ["window", "closed_at"])


def downgrade() -> None:
    op.drop_index("ix_spend_window_closed", "spend_window")
    for name in ("spend_window", "window_mark"):
        table = sa.table(name, sa.column("window"))
        op.execute(sa.delete(table).where(table.c.window != "hour"))
    for name in ("timezone", "ends_at"):
        op.drop_column("spend_window", name)
    op.drop_index("ix_budget_window_starts", "budget_window")
    op.drop_table("budget_alert")
    op.drop_table("budget_raise")
