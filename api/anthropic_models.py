"""`GET /v1/models` as Anthropic's SDKs read it: pages of models with names to show."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from shared.errors import InvalidRequest

MAX_LIMIT = 1000


def page(
    names: Sequence[str], *, created_s: int, limit: int, after: str | None, before: str | None
) -> dict[str, Any]:
    """Return the models after one of them, or those just before it; `limit` at a time.

    Raises:
        InvalidRequest: `after` or `before` is no model's id.
    """
    start, end = 0, len(names)
    if after is not None:
        start = _place(names, after, "after_id") + 1
    if before is not None:
        end = _place(names, before, "before_id")
        start = max(start, end - limit)
    shown = names[start : min(end, start + limit)]
    more = start > 0 if before is not None else start + len(shown) < len(names)
    return {
        "data": [model(name, created_s=created_s) for name in shown],
        "has_more": more,
        "first_id": shown[0] if shown else None,
        "last_id": shown[-1] if shown else None,
    }


def model(name: str, *, created_s: int) -> dict[str, Any]:
    """Return one model."""
    created_at = datetime.fromtimestamp(created_s, UTC).isoformat().replace("+00:00", "Z")
    return {
        "type": "model",
        "id": name,
        "display_name": name,
        "created_at": created_at,
        "lifecycle": "active",
    }


def _place(names: Sequence[str], name: str, param: str) -> int:
    if name not in names:
        raise InvalidRequest(f"`{param}` is no model's id: {name!r}.", param=param)
    return names.index(name)
