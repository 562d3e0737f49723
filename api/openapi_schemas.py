"""What goes in and comes out, for the OpenAPI document; fuzzing holds it against the server.

A request's schema says what we refuse and no more: the provider refuses the rest.
"""

from collections.abc import Mapping
from typing import Any

from api.asgi import JSON
from shared.gateway.parse import ENDPOINTS, MAX_MODEL
from shared.jobs.state import STATES
from shared.queue.tasks import CLASSES

Schema = dict[str, Any]

_NUMBER: Schema = {"type": ["number", "null"], "minimum": -1e300, "maximum": 1e300}
_INTEGER: Schema = {"type": ["integer", "null"], "minimum": -(10**300), "maximum": 10**300}
_OBJECT: Schema = {"type": ["object", "null"]}
_TEXT: Schema = {"type": ["string", "null"]}
_FLAG: Schema = {"type": ["boolean", "null"]}
_MODEL: Schema = {"type": "string", "minLength": 1, "maxLength": MAX_MODEL}

ERROR: Schema = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": _TEXT,
                "code": {"type": "string"},
                "attempts": {"type": "array", "items": {"type": "object"}},
                "limit_source": {"type": "string"},
                "resets_at": {"type": "integer"},
            },
            "required": ["message", "type", "param", "code"],
        }
    },
    "required": ["error"],
}

CHAT: Schema = {
    "type": "object",
    "required": ["model", "messages"],
    "properties": {
        "model": _MODEL,
        "messages": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["role"],
                "properties": {"role": {"type": "string"}},
            },
        },
        "stream": _FLAG,
        "stream_options": {
            "type": ["object", "null"],
            "properties": {"include_usage": _FLAG},
        },
        "max_tokens": _INTEGER,
        "max_completion_tokens": _INTEGER,
        "temperature": _NUMBER,
        "top_p": _NUMBER,
        "presence_penalty": _NUMBER,
        "frequency_penalty": _NUMBER,
        "seed": _NUMBER,
        "stop": {"type": ["string", "array", "null"], "items": {"type": "string"}},
        "tools": {"type": ["array", "null"]},
        "tool_choice": {"type": ["string", "object", "null"]},
        "parallel_tool_calls": _FLAG,
        "response_format": _OBJECT,
        "logit_bias": _OBJECT,
        "metadata": _OBJECT,
        "user": _TEXT,
        "safety_identifier": _TEXT,
    },
}

EMBEDDINGS: Schema = {
    "type": "object",
    "required": ["model", "input"],
    "properties": {
        "model": _MODEL,
        "input": {"type": ["string", "array"]},
        "encoding_format": _TEXT,
        "dimensions": _INTEGER,
        "user": _TEXT,
    },
}

BODIES: Mapping[str, Schema] = {"/v1/chat/completions": CHAT, "/v1/embeddings": EMBEDDINGS}

NEW_JOB: Schema = {
    "type": "object",
    "required": ["endpoint", "body"],
    "additionalProperties": False,
    "properties": {
        "endpoint": {"enum": list(ENDPOINTS)},
        "body": {"type": "object"},
        "priority": {"enum": [*sorted(CLASSES), None]},
        "deadline": {"type": ["integer", "number", "string", "null"]},
        "not_before": {"type": ["integer", "number", "string", "null"]},
        "webhook_url": _TEXT,
        "metadata": {
            "type": ["object", "null"],
            "maxProperties": 16,
            "additionalProperties": {"type": "string"},
        },
    },
}

JOB: Schema = {
    "type": "object",
    "required": ["id", "object", "endpoint", "status", "priority", "created_at", "deadline"],
    "properties": {
        "id": {"type": "string"},
        "object": {"const": "job"},
        "endpoint": {"type": "string"},
        "status": {"enum": sorted(STATES)},
        "priority": {"enum": sorted(CLASSES)},
        "created_at": {"type": "integer"},
        "started_at": {"type": ["integer", "null"]},
        "finished_at": {"type": ["integer", "null"]},
        "deadline": {"type": "integer"},
        "not_before": {"type": ["integer", "null"]},
        "metadata": {"type": "object"},
        "tags": {"type": "object"},
        "attempts": {"type": "array", "items": {"type": "object"}},
        "usage": _OBJECT,
        "cost_usd": {"type": ["number", "null"]},
        "error": _OBJECT,
        "response": _OBJECT,
        "batch_id": _TEXT,
        "queue_position": {"type": ["integer", "null"]},
        "request_id": {"type": "string"},
    },
}

JOBS: Schema = {
    "type": "object",
    "required": ["object", "data", "first_id", "last_id", "has_more"],
    "properties": {
        "object": {"const": "list"},
        "data": {"type": "array", "items": {"$ref": "#/components/schemas/Job"}},
        "first_id": _TEXT,
        "last_id": _TEXT,
        "has_more": {"type": "boolean"},
    },
}

MOMENT: Schema = {
    "anyOf": [
        {"type": "string", "pattern": "^[0-9]{1,10}$"},
        {"type": "string", "format": "date-time"},
    ]
}

QUERY: Mapping[tuple[str, str], Schema] = {
    ("list_jobs", "status"): {"enum": sorted(STATES)},
    ("list_jobs", "after"): {"type": "string"},
    ("get_usage", "since"): MOMENT,
    ("get_usage", "until"): MOMENT,
}
"""Query parameters whose form a type does not tell: operation and name."""


def content(schema: Schema, kind: str = JSON.decode()) -> Schema:
    """Return a body of that kind."""
    return {"content": {kind: {"schema": schema}}}
