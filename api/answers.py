"""What handlers answer with: a value as JSON, and a page of a list as OpenAI has it."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from litestar import Response


def json_of(
    value: object, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response[bytes]:
    """Return the answer with that value as JSON."""
    return Response(
        msgspec.json.encode(value),
        status_code=status,
        headers=headers,
        media_type="application/json",
    )


def page_of(data: Sequence[Any], *, more: bool) -> dict[str, Any]:
    """Return a page; what is listed has an `id`, as a field or as an attribute."""
    return {
        "object": "list",
        "data": data,
        "first_id": _id_of(data[0]) if data else None,
        "last_id": _id_of(data[-1]) if data else None,
        "has_more": more,
    }


def _id_of(item: Any) -> str | None:  # noqa: ANN401 (an object of the API, of any kind)
    found: str | None = item.get("id") if isinstance(item, dict) else item.id
    return found
