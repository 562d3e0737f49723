"""What reports of usage take and answer, where their handlers' types do not say it."""

from collections.abc import Mapping
from typing import Any

from api.openapi_schemas import MOMENT, TEXT
from shared.ledger.usage_report import COUNTS, FILTERS
from shared.store.usage import GROUPS

Schema = dict[str, Any]

STATUSES: Mapping[str, tuple[str, ...]] = {
    "get_all_usage": ("400",),
}

_REPORTS = ("get_usage", "get_all_usage")
_GROUP = f"({'|'.join(GROUPS)}|tag:[A-Za-z0-9_.-]{{1,64}})"
_GROUPS: Schema = {"type": "string", "pattern": f"^{_GROUP}(,{_GROUP}){{0,3}}$"}
_TAG: Schema = {"type": "string", "pattern": "^[A-Za-z0-9_.-]+=[A-Za-z0-9_.-]+$"}
_WORD: Schema = {"type": "string"}
_ZONE: Schema = {"type": "string", "examples": ["Europe/Berlin"]}

QUERY: Mapping[tuple[str, str], Schema] = {
    (report, name): schema
    for report in _REPORTS
    for name, schema in {
        **dict.fromkeys(FILTERS, _WORD),
        "since": MOMENT,
        "until": MOMENT,
        "group_by": _GROUPS,
        "timezone": _ZONE,
        "tag": _TAG,
    }.items()
}

_COUNTS: Mapping[str, Schema] = {
    name: {"type": ["string" if name.endswith("_usd") else "integer", "null"]} for name in COUNTS
}
_ROW: Schema = {"type": "object", "required": list(COUNTS), "properties": dict(_COUNTS)}
_REPORT: Schema = {
    "type": "object",
    "required": ["object", "tenant", "since", "until", "timezone", "group_by", *COUNTS],
    "properties": {
        "object": {"const": "usage"},
        "tenant": TEXT,
        "since": {"type": "integer"},
        "until": {"type": "integer"},
        "timezone": {"type": "string"},
        "group_by": {"type": "array", "items": {"type": "string"}},
        **_COUNTS,
        "cache": {"type": "object"},
        "by_model": {"type": "array", "items": _ROW},
        "data": {"type": "array", "items": _ROW},
    },
}
_BUDGET: Schema = {
    "type": "object",
    "required": ["id", "window", "action", "remaining_usd", "resets_at"],
    "properties": {
        "object": {"const": "budget"},
        "id": {"type": "string"},
        "applies_to": {"type": "object", "additionalProperties": {"type": "string"}},
        "shared": {"type": "boolean"},
        "window": {"type": "string"},
        "timezone": {"type": "string"},
        "action": {"enum": ["reject", "warn"]},
        "thresholds": {"type": "array", "items": {"type": "integer"}},
        "limit_usd": TEXT,
        "raised_usd": TEXT,
        "spent_usd": TEXT,
        "held_usd": TEXT,
        "remaining_usd": {"type": "string"},
        "estimated_requests_left": {"type": ["integer", "null"]},
        "starts_at": {"type": "integer"},
        "resets_at": {"type": "integer"},
        "raises": {"type": "array", "items": {"type": "object"}},
    },
}
_BUDGETS: Schema = {
    "type": "object",
    "required": ["object", "mean_request_usd", "data"],
    "properties": {
        "object": {"const": "list"},
        "mean_request_usd": TEXT,
        "data": {"type": "array", "items": _BUDGET},
    },
}

_TABLE: Schema = {
    "description": "The report.",
    "content": {
        "application/json": {"schema": _REPORT},
        "text/csv": {"schema": {"type": "string"}},
    },
}

RESULTS: Mapping[tuple[str, str], Schema] = {
    ("get_usage", "200"): _TABLE,
    ("get_all_usage", "200"): _TABLE,
    ("get_budget", "200"): {"content": {"application/json": {"schema": _BUDGETS}}},
}
