"""What is told of a closed spend window, for whoever writes invoices. Pure."""

from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from shared.ledger.cost import usd_text
from shared.store.ledger import COUNTED
from shared.store.records import WindowRow
from shared.store.windows import TENANT


def closing_id(row: WindowRow) -> str:
    """Return a row's name, the same whenever it is told: `acme/day/2026-03-05T00:00:00Z/0`.

    The number behind is 0 for the closed window and grows with each correction of it, so that an
    invoice that has taken every name once is right.
    """
    starts_at = row.starts_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return f"{_tenant_of(row)}/{row.window}/{starts_at}/{row.sequence}"


def closing_facts(row: WindowRow) -> Mapping[str, object]:
    """Return what is told of it, as JSON values: of a correction by how much each sum changes."""
    return {
        "tenant_id": _tenant_of(row),
        "window": row.window,
        "timezone": row.timezone,
        "starts_at": _seconds(row.starts_at),
        "ends_at": _seconds(row.ends_at),
        "sequence": row.sequence,
        "correction": row.sequence > 0,
        **{name: getattr(row, name) for name in COUNTED if name != "cost_nanousd"},
        # A number with all of its digits.
        "cost_usd": msgspec.Raw(usd_text(row.cost_nanousd).encode()),
    }


def _tenant_of(row: WindowRow) -> str:
    return row.scope.removeprefix(TENANT)


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())
