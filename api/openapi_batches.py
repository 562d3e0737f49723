"""What goes in and comes out of `/v1/batches…`."""

from collections.abc import Mapping
from typing import Any

from api.openapi_schemas import TEXT, content, page
from shared.files.terms import ANCHOR, LEAST_KEPT_S, MOST_KEPT_S
from shared.jobs.submit import ENDPOINTS
from shared.store.batches import STATUSES as STATES

Schema = dict[str, Any]

_EPOCH: Schema = {"type": ["integer", "null"]}
_OBJECT: Schema = {"type": ["object", "null"]}
_STAMPS = (
    "in_progress_at", "finalizing_at", "completed_at", "failed_at", "expired_at", "cancelling_at",
    "cancelled_at",
)  # fmt: skip

_BATCH: Schema = {
    "type": "object",
    "required": ["id", "object", "endpoint", "input_file_id", "status", "request_counts"],
    "properties": {
        "id": {"type": "string"},
        "object": {"const": "batch"},
        "endpoint": {"type": "string"},
        "model": TEXT,
        "errors": _OBJECT,
        "input_file_id": {"type": "string"},
        "completion_window": {"type": "string"},
        "on_budget": {"enum": ["fail", "wait"]},
        "status": {"enum": list(STATES)},
        "output_file_id": TEXT,
        "error_file_id": TEXT,
        "created_at": {"type": "integer"},
        "expires_at": {"type": "integer"},
        **dict.fromkeys(_STAMPS, _EPOCH),
        "request_counts": {
            "type": "object",
            "required": ["total", "completed", "failed"],
            "properties": {name: {"type": "integer"} for name in ("total", "completed", "failed")},
        },
        "usage": _OBJECT,
        "cost_usd": {"type": ["number", "null"]},
        "metadata": {"type": "object"},
    },
}

_BATCHES: Schema = page(_BATCH)

REQUESTS: Mapping[str, Schema] = {
    "create_batch": {
        "type": "object",
        "required": ["input_file_id", "endpoint", "completion_window"],
        "additionalProperties": False,
        "properties": {
            "input_file_id": {"type": "string"},
            "endpoint": {"enum": sorted(ENDPOINTS)},
            "completion_window": {
                "type": "string",
                "pattern": "^(immediate|[1-9][0-9]{0,3}m|[1-9][0-9]?h|1[0-5][0-9]h|[1-7]d)$",
            },
            "metadata": {
                "type": ["object", "null"],
                "maxProperties": 16,
                "propertyNames": {"maxLength": 64},
                "additionalProperties": {"type": "string", "maxLength": 512},
            },
            "output_expires_after": {
                "type": ["object", "null"],
                "required": ["anchor", "seconds"],
                "additionalProperties": False,
                "properties": {
                    "anchor": {"enum": [ANCHOR]},
                    "seconds": {
                        "type": "integer",
                        "minimum": LEAST_KEPT_S,
                        "maximum": MOST_KEPT_S,
                    },
                },
            },
            "on_budget": {"enum": ["fail", "wait", None]},
        },
    }
}

RESULTS: Mapping[tuple[str, str], Schema] = {
    **{(name, "200"): content(_BATCH) for name in ("create_batch", "get_batch", "cancel_batch")},
    ("list_batches", "200"): content(_BATCHES),
}

STATUSES: Mapping[str, tuple[str, ...]] = {
    "create_batch": ("404", "413"),
    "get_batch": ("404",),
    "cancel_batch": ("404", "409"),
}

QUERY: Mapping[tuple[str, str], Schema] = {("list_batches", "after"): {"type": "string"}}
