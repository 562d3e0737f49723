"""Answers that the cache has given, by tenant, hour and model."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "cache_hit",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("starts_at", sa.BigInteger(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("hits", sa.BigInteger(), nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("saved_nanousd", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "starts_at", "provider", "model"),
    )


def downgrade() -> None:
    op.drop_table("cache_hit")
