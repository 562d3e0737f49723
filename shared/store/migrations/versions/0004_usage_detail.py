"""The ledger: more of what was counted, the tier, and the cost by the provider's own account."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

COUNTS = (
    "cache_write_1h_tokens",
    "input_image_tokens",
    "output_image_tokens",
    "input_characters",
    "input_audio_ms",
)


def upgrade() -> None:
    for name in COUNTS:
        column = sa.Column(name, sa.BigInteger(), nullable=False, server_default="0")
        op.add_column("ledger", column)
    op.add_column("ledger", sa.Column("service_tier", sa.Text()))
    op.add_column("ledger", sa.Column("reported_nanousd", sa.BigInteger()))


def downgrade() -> None:
    with op.batch_alter_table("ledger") as ledger:
        for name in (*COUNTS, "service_tier", "reported_nanousd"):
            ledger.drop_column(name)
