"""Endpoints that callers manage."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("delivery", sa.Column("endpoint_id", sa.Text()))
    op.create_index("ix_delivery_endpoint", "delivery", ["endpoint_id", "id"])
    op.create_index("ix_webhook_event_created", "webhook_event", ["created_at"])
    op.create_table(
        "webhook_endpoint",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("event_types", sa.Text(), nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("old_secret", sa.Text()),
        sa.Column("old_secret_until", sa.BigInteger()),
        sa.Column("concurrency", sa.Integer(), nullable=False),
        sa.Column("failing_since", sa.BigInteger()),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("disabled_at", sa.BigInteger()),
        sa.Column("disabled_why", sa.Text()),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_webhook_endpoint_tenant", "webhook_endpoint", ["tenant_id", "created_at"])


def downgrade() -> None:
    op.drop_table("webhook_endpoint")
    op.drop_index("ix_webhook_event_created", "webhook_event")
    op.drop_index("ix_delivery_endpoint", "delivery")
    op.drop_column("delivery", "endpoint_id")
