"""What goes in and comes out, for the OpenAPI document; fuzzing holds it against the server.

A request's schema says what we refuse and no more: the provider refuses the rest.
"""

from collections.abc import Mapping
from typing import Any, get_args

from api.asgi import JSON
from api.openapi_others import other_bodies
from shared.gateway.parse import JOB_ENDPOINTS, MAX_MODEL, Role
from shared.jobs.state import STATES
from shared.queue.tasks import CLASSES

Schema = dict[str, Any]

_NUMBER: Schema = {"type": ["number", "null"], "minimum": -1e300, "maximum": 1e300}
_INTEGER: Schema = {"type": ["integer", "null"], "minimum": -(10**300), "maximum": 10**300}
_OBJECT: Schema = {"type": ["object", "null"]}
TEXT: Schema = {"type": ["string", "null"]}


def page(items: Schema) -> Schema:
    """Return the schema of a page of a list."""
    return {
        "type": "object",
        "required": ["object", "data", "first_id", "last_id", "has_more"],
        "properties": {
            "object": {"const": "list"},
            "data": {"type": "array", "items": items},
            "first_id": TEXT,
            "last_id": TEXT,
            "has_more": {"type": "boolean"},
        },
    }


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
                "param": TEXT,
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

ANTHROPIC_ERROR: Schema = {
    "type": "object",
    "properties": {
        "type": {"const": "error"},
        "request_id": TEXT,
        "error": {
            "type": "object",
            "properties": {
                **ERROR["properties"]["error"]["properties"],
                "details": {
                    "type": "object",
                    "properties": {"error_code": {"type": "string"}},
                },
            },
            "required": ["message", "type", "param", "code", "details"],
        },
    },
    "required": ["type", "error", "request_id"],
}

_MESSAGES: Schema = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "required": ["role"],
        "properties": {"role": {"type": "string", "enum": list(get_args(Role))}},
    },
}

CHAT: Schema = {
    "type": "object",
    "required": ["model", "messages"],
    "properties": {
        "model": _MODEL,
        "messages": _MESSAGES,
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
        "user": TEXT,
        "safety_identifier": TEXT,
    },
}

EMBEDDINGS: Schema = {
    "type": "object",
    "required": ["model", "input"],
    "properties": {
        "model": _MODEL,
        "input": {"type": ["string", "array"]},
        "encoding_format": TEXT,
        "dimensions": _INTEGER,
        "user": TEXT,
    },
}

_ASKED: Schema = {
    "model": _MODEL,
    "messages": _MESSAGES,
    "tools": {"type": ["array", "null"]},
    "tool_choice": _OBJECT,
    "metadata": _OBJECT,
}

MESSAGES: Schema = {
    "type": "object",
    "required": ["model", "messages"],
    "properties": {
        **_ASKED,
        "stream": _FLAG,
        "max_tokens": _INTEGER,
        "temperature": _NUMBER,
        "top_p": _NUMBER,
    },
}

COUNT_TOKENS: Schema = {
    "type": "object",
    "required": ["model", "messages"],
    "properties": _ASKED,
}

RESPONSES: Schema = {
    "type": "object",
    "required": ["model", "input"],
    "properties": {
        "model": _MODEL,
        "input": {"type": ["string", "array"], "minItems": 1},
        "instructions": {"type": ["string", "array", "null"]},
        "previous_response_id": TEXT,
        "store": _FLAG,
        "background": {"enum": [False, None]},
        "stream": _FLAG,
        "tools": {"type": ["array", "null"]},
        "tool_choice": {"type": ["string", "object", "null"]},
        "parallel_tool_calls": _FLAG,
        "text": _OBJECT,
        "reasoning": _OBJECT,
        "max_output_tokens": _INTEGER,
        "temperature": _NUMBER,
        "top_p": _NUMBER,
        "metadata": _OBJECT,
        "user": TEXT,
        "safety_identifier": TEXT,
    },
}

RESPONSE: Schema = {
    "type": "object",
    "required": ["id", "object", "created_at", "status", "model", "output"],
    "properties": {
        "id": {"type": "string"},
        "object": {"const": "response"},
        "created_at": {"type": "number"},
        "status": {"enum": ["completed", "incomplete"]},
        "model": {"type": "string"},
        "output": {"type": "array", "items": {"type": "object"}},
        "usage": _OBJECT,
        "previous_response_id": TEXT,
    },
}

ITEMS: Schema = page({"type": "object"})

BODIES: Mapping[str, Schema] = {
    "/v1/chat/completions": CHAT,
    "/v1/responses": RESPONSES,
    "/v1/embeddings": EMBEDDINGS,
    "/v1/messages": MESSAGES,
    "/v1/messages/count_tokens": COUNT_TOKENS,
    **other_bodies(
        {name: kind for name, kind in CHAT["properties"].items() if name != "messages"}, _MODEL
    ),
}

NEW_JOB: Schema = {
    "type": "object",
    "required": ["endpoint", "body"],
    "additionalProperties": False,
    "properties": {
        "endpoint": {"enum": list(JOB_ENDPOINTS)},
        "body": {"type": "object"},
        "priority": {"enum": [*sorted(CLASSES), None]},
        "deadline": {"type": ["integer", "number", "string", "null"]},
        "not_before": {"type": ["integer", "number", "string", "null"]},
        "webhook_url": TEXT,
        "metadata": {
            "type": ["object", "null"],
            "maxProperties": 16,
            "additionalProperties": {"type": "string"},
        },
        "on_budget": {"enum": ["fail", "wait", None]},
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
        "batch_id": TEXT,
        "queue_position": {"type": ["integer", "null"]},
        "estimated_start": {"type": ["integer", "null"]},
        "waits_for": TEXT,
        "on_budget": {"enum": ["fail", "wait"]},
        "request_id": {"type": "string"},
    },
}

JOBS: Schema = page({"$ref": "#/components/schemas/Job"})

MOMENT: Schema = {
    "anyOf": [
        {"type": "string", "pattern": "^[0-9]{1,10}$"},
        {"type": "string", "format": "date-time"},
    ]
}

QUERY: Mapping[tuple[str, str], Schema] = {
    ("list_jobs", "status"): {"enum": sorted(STATES)},
    ("list_jobs", "after"): {"type": "string"},
    ("list_jobs", "batch_id"): {"type": "string"},
    ("list_input_items", "after"): {"type": "string"},
    ("get_response", "stream"): {"type": "boolean", "enum": [False]},
}
"""Query parameters whose form a type does not tell: operation and name."""


def content(schema: Schema, kind: str = JSON.decode()) -> Schema:
    """Return a body of that kind."""
    return {"content": {kind: {"schema": schema}}}
