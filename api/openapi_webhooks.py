"""What goes in and comes out of `/v1/webhook_endpoints…`, and of the same paths under `/admin`."""

from collections.abc import Mapping
from typing import Any, TypeVar

from api.openapi_schemas import TEXT, page
from shared.webhooks.event import EVENT_TYPES
from shared.webhooks.terms import LONGEST_NAME, MOST_AT_ONCE, types_for

Schema = dict[str, Any]
T = TypeVar("T")

_EPOCH: Schema = {"type": ["integer", "null"]}
_TYPES: Schema = {
    "type": "array",
    "minItems": 1,
    "items": {"enum": list(types_for("a tenant"))},
}
_SETTABLE: Schema = {
    "name": {"type": "string", "minLength": 1, "maxLength": LONGEST_NAME},
    "url": {"type": "string", "format": "uri"},
    "event_types": _TYPES,
    "concurrency": {"type": "integer", "minimum": 1, "maximum": MOST_AT_ONCE},
}


def _body(properties: Schema, *required: str) -> Schema:
    fixed = {"type": "object", "additionalProperties": False, "properties": properties}
    return fixed | ({"required": list(required)} if required else {})


_ENDPOINT: Schema = {
    "type": "object",
    "required": ["id", "object", "name", "url", "event_types", "status", "created_at"],
    "properties": {
        "id": {"type": "string"},
        "object": {"const": "webhook_endpoint"},
        "name": {"type": "string"},
        "url": {"type": "string"},
        "event_types": {"type": "array", "items": {"enum": sorted(EVENT_TYPES)}},
        "concurrency": {"type": "integer"},
        "status": {"enum": ["enabled", "disabled"]},
        "disabled_at": _EPOCH,
        "disabled_reason": TEXT,
        "failing_since": _EPOCH,
        "signing_secret": {"type": "string", "description": "when created or replaced, only then"},
        "signing_secret_hint": TEXT,
        "old_secret_expires_at": _EPOCH,
        "created_at": {"type": "integer"},
        "updated_at": _EPOCH,
    },
}

_DELIVERY: Schema = {
    "type": "object",
    "required": ["id", "object", "event_id", "event_type", "status", "attempts"],
    "properties": {
        "id": {"type": "string"},
        "object": {"const": "webhook_delivery"},
        "event_id": {"type": "string"},
        "event_type": {"type": "string"},
        "event_created_at": {"type": "integer"},
        "status": {"enum": ["pending", "delivering", "succeeded", "failed"]},
        "next_attempt_at": _EPOCH,
        "error": TEXT,
        "attempts": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["at", "status_code", "latency_ms", "error", "answer_head"],
                "properties": {
                    "at": {"type": "integer"},
                    "status_code": _EPOCH,
                    "latency_ms": {"type": "integer"},
                    "error": TEXT,
                    "answer_head": {"type": "string"},
                },
            },
        },
    },
}

_MOMENT: Schema = {"type": ["integer", "number", "string", "null"]}


def _on_both(of: Mapping[str, T]) -> dict[str, T]:
    """Return the same for the operations under `/admin`, too."""
    return {**of, **{f"operator_{name}": value for name, value in of.items()}}


REQUESTS: Mapping[str, Schema] = _on_both(
    {
        "create_webhook_endpoint": _body(_SETTABLE, "name", "url", "event_types"),
        "update_webhook_endpoint": _body({**_SETTABLE, "enabled": {"type": "boolean"}}),
        "rotate_webhook_secret": _body(
            {"keep_old_secret_active_for_24_hours": {"type": "boolean"}}
        ),
        "test_webhook_endpoint": _body({"event_type": _TYPES["items"]}),
        "redeliver_events": _body(
            {
                "delivery_id": TEXT,
                "event_id": TEXT,
                "since": _MOMENT,
                "until": _MOMENT,
                "failed": {"type": "boolean"},
            }
        ),
    }
)
"""Bodies, by operation."""

RESULTS: Mapping[str, Schema] = _on_both(
    {
        "create_webhook_endpoint": _ENDPOINT,
        "list_webhook_endpoints": page(_ENDPOINT),
        "get_webhook_endpoint": _ENDPOINT,
        "update_webhook_endpoint": _ENDPOINT,
        "rotate_webhook_secret": _ENDPOINT,
        "list_deliveries": page(_DELIVERY),
    }
)
"""What they answer with 200, by operation."""

_STATUSES: Mapping[str, tuple[str, ...]] = {
    "list_event_types": (),
    "list_webhook_endpoints": (),
    "get_webhook_endpoint": ("404",),
    "delete_webhook_endpoint": ("404",),
    "list_deliveries": ("404",),
    "create_webhook_endpoint": ("409", "413"),
    "update_webhook_endpoint": ("404", "413"),
    "rotate_webhook_secret": ("404", "413"),
    "test_webhook_endpoint": ("404", "413"),
    "redeliver_events": ("404", "409", "413"),
}

STATUSES: Mapping[str, tuple[str, ...]] = {
    name: (*statuses, "400", "401", "403", "503") for name, statuses in _on_both(_STATUSES).items()
}
"""The errors they answer with."""

QUERY: Mapping[tuple[str, str], Schema] = {
    **{(name, "after"): {"type": "string"} for name in _on_both({"list_deliveries": 0})},
    **{(name, "after"): {"type": "string"} for name in _on_both({"list_webhook_endpoints": 0})},
    **{
        (name, "status"): _DELIVERY["properties"]["status"]
        for name in _on_both({"list_deliveries": 0})
    },
}
"""Query parameters whose form a type does not tell."""
