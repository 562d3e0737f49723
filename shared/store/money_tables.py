"""The tables of money: the ledger, spend windows, budgets with their grants, raises and alerts.

What `tables.py` says of a change holds here too.
"""

import sqlalchemy as sa

from shared.store.columns import Document, Moment, Words
from shared.store.records import BudgetRef
from shared.store.tables import LABELS, metadata

ledger = sa.Table(
    "ledger",
    metadata,
    # In the order they came in, which is the table's own: `insert` follows it.
    sa.Column("attempt_id", Words, primary_key=True),
    sa.Column("request_id", Words, nullable=False),
    sa.Column("job_id", Words),
    sa.Column("tenant_id", Words, nullable=False),
    sa.Column("key_id", Words, nullable=False),
    sa.Column("user", Words),
    sa.Column("tags", Document(LABELS), nullable=False),
    sa.Column("endpoint", Words, nullable=False),
    sa.Column("route", Words, nullable=False),
    sa.Column("provider", Words, nullable=False),
    sa.Column("model", Words, nullable=False),
    sa.Column("reported_model", Words),
    sa.Column("stream", sa.Boolean, nullable=False),
    sa.Column("outcome", Words, nullable=False),
    sa.Column("code", Words),
    sa.Column("status_code", sa.Integer),
    sa.Column("input_tokens", sa.BigInteger, nullable=False),
    sa.Column("output_tokens", sa.BigInteger, nullable=False),
    sa.Column("cache_read_tokens", sa.BigInteger, nullable=False),
    sa.Column("cache_write_tokens", sa.BigInteger, nullable=False),
    sa.Column("reasoning_tokens", sa.BigInteger, nullable=False),
    sa.Column("input_audio_tokens", sa.BigInteger, nullable=False),
    sa.Column("output_audio_tokens", sa.BigInteger, nullable=False),
    sa.Column("estimated", sa.Boolean, nullable=False),
    sa.Column("cost_nanousd", sa.BigInteger),
    sa.Column("price_source", Words),
    sa.Column("duration_ms", sa.BigInteger, nullable=False),
    sa.Column("first_token_ms", sa.BigInteger),
    sa.Column("started_at", Moment, nullable=False),
    sa.Column("ended_at", Moment, nullable=False),
    # When it came into the database: how late rows are found.
    sa.Column("recorded_at", Moment, nullable=False),
    sa.Column("cache_write_1h_tokens", sa.BigInteger, nullable=False),
    sa.Column("input_image_tokens", sa.BigInteger, nullable=False),
    sa.Column("output_image_tokens", sa.BigInteger, nullable=False),
    sa.Column("input_characters", sa.BigInteger, nullable=False),
    sa.Column("input_audio_ms", sa.BigInteger, nullable=False),
    sa.Column("service_tier", Words),
    # The cost by the provider's own account; ours stands beside it.
    sa.Column("reported_nanousd", sa.BigInteger),
    # Which edition of the list, or a fingerprint of the config's figures.
    sa.Column("price_version", Words),
    # Of an adjustment: the attempt it corrects, and why. Rows are never edited.
    sa.Column("adjusts", Words),
    sa.Column("reason", Words),
    sa.Column("batch_id", Words),
    # Searches of the web that the provider made, each at a price of its own.
    sa.Column("web_searches", sa.BigInteger, nullable=False),
    # Of the cache reads, those of sound.
    sa.Column("cache_read_audio_tokens", sa.BigInteger, nullable=False),
    # The windows of budgets that its cost was settled in, as they stood when it was called.
    sa.Column("budgets", Document(tuple[BudgetRef, ...]), nullable=False),
    sa.Index("ix_ledger_tenant_ended", "tenant_id", "ended_at"),
    sa.Index("ix_ledger_ended", "ended_at"),
    sa.Index("ix_ledger_recorded", "recorded_at"),
)

# Few rows correct others, and most are of no job: those would be in these with nothing.
_CORRECTS = ledger.c.adjusts.is_not(None)
sa.Index(
    "ix_ledger_adjusts",
    ledger.c.adjusts,
    postgresql_where=_CORRECTS,
    sqlite_where=_CORRECTS,
)
_OF_JOB = ledger.c.job_id.is_not(None)
sa.Index("ix_ledger_job", ledger.c.job_id, postgresql_where=_OF_JOB, sqlite_where=_OF_JOB)

spend_window = sa.Table(
    "spend_window",
    metadata,
    sa.Column("scope", Words, primary_key=True),
    sa.Column("window", Words, primary_key=True),
    sa.Column("starts_at", Moment, primary_key=True),
    sa.Column("sequence", sa.Integer, primary_key=True),
    sa.Column("ends_at", Moment, nullable=False),
    # Whose midnights bound it; hours are UTC's.
    sa.Column("timezone", Words, nullable=False),
    sa.Column("requests", sa.BigInteger, nullable=False),
    sa.Column("attempts", sa.BigInteger, nullable=False),
    sa.Column("input_tokens", sa.BigInteger, nullable=False),
    sa.Column("output_tokens", sa.BigInteger, nullable=False),
    sa.Column("cache_read_tokens", sa.BigInteger, nullable=False),
    sa.Column("reasoning_tokens", sa.BigInteger, nullable=False),
    sa.Column("cost_nanousd", sa.BigInteger, nullable=False),
    sa.Column("unpriced_attempts", sa.BigInteger, nullable=False),
    sa.Column("estimated_attempts", sa.BigInteger, nullable=False),
    sa.Column("closed_at", Moment, nullable=False),
    sa.Index("ix_spend_window_starts", "window", "starts_at"),
    # How the windows above find what came late.
    sa.Index("ix_spend_window_closed", "window", "closed_at"),
)

window_mark = sa.Table(
    "window_mark",
    metadata,
    sa.Column("window", Words, primary_key=True),
    sa.Column("closed_until", Moment, nullable=False),
    sa.Column("checked_at", Moment, nullable=False),
)

# The limit is the config's and not kept: settled + granted never grows past it.
budget_window = sa.Table(
    "budget_window",
    metadata,
    sa.Column("budget_id", Words, primary_key=True),
    sa.Column("starts_at", Moment, primary_key=True),
    sa.Column("settled_nanousd", sa.BigInteger, nullable=False),
    sa.Column("granted_nanousd", sa.BigInteger, nullable=False),
    # Grows with every change of the row or of its grants: tells which news of it is newer.
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Index("ix_budget_window_starts", "starts_at"),
)

budget_grant = sa.Table(
    "budget_grant",
    metadata,
    sa.Column("owner", Words, primary_key=True),
    sa.Column("budget_id", Words, primary_key=True),
    sa.Column("starts_at", Moment, primary_key=True),
    sa.Column("amount_nanousd", sa.BigInteger, nullable=False),
    sa.Column("expires_at", Moment, nullable=False),
    sa.Index("ix_budget_grant_expires", "expires_at"),
)

cache_hit = sa.Table(
    "cache_hit",
    metadata,
    sa.Column("tenant_id", Words, primary_key=True),
    sa.Column("starts_at", Moment, primary_key=True),
    sa.Column("provider", Words, primary_key=True),
    sa.Column("model", Words, primary_key=True),
    sa.Column("hits", sa.BigInteger, nullable=False),
    sa.Column("input_tokens", sa.BigInteger, nullable=False),
    sa.Column("output_tokens", sa.BigInteger, nullable=False),
    sa.Column("saved_nanousd", sa.BigInteger, nullable=False),
)

# A limit that is higher for a while: added to that of its budget until it expires.
budget_raise = sa.Table(
    "budget_raise",
    metadata,
    sa.Column("id", Words, primary_key=True),
    sa.Column("budget_id", Words, nullable=False),
    sa.Column("amount_nanousd", sa.BigInteger, nullable=False),
    sa.Column("reason", Words),
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("expires_at", Moment, nullable=False),
    sa.Index("ix_budget_raise_expires", "expires_at"),
)

# What has been told of a budget's window: each threshold once, whoever comes first.
budget_alert = sa.Table(
    "budget_alert",
    metadata,
    sa.Column("budget_id", Words, primary_key=True),
    sa.Column("starts_at", Moment, primary_key=True),
    # `spent`, `forecast`, `exceeded`, `reset` or `spike`.
    sa.Column("kind", Words, primary_key=True),
    sa.Column("threshold", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("event_id", Words, nullable=False),
    sa.Column("created_at", Moment, nullable=False),
)
