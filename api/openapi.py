"""The OpenAPI document: Litestar's, with the raw inference routes written in."""

import html
from collections.abc import Mapping
from typing import Any

from litestar import Litestar, Router
from litestar.routes import BaseRoute
from litestar.types import ControllerRouterHandler
from typing_extensions import override

from api import openapi_batches, openapi_files, openapi_usage
from api.asgi import JSON
from api.call import DEFAULT_TIMEOUT_S
from api.openapi_schemas import (
    ANTHROPIC_ERROR,
    BODIES,
    ERROR,
    ITEMS,
    JOB,
    JOBS,
    NEW_JOB,
    QUERY,
    RESPONSE,
    content,
)
from api.openapi_webhooks import QUERY as WEBHOOK_QUERY
from api.openapi_webhooks import REQUESTS as WEBHOOK_REQUESTS
from api.openapi_webhooks import RESULTS as WEBHOOK_RESULTS
from api.openapi_webhooks import STATUSES as WEBHOOK_STATUSES
from shared.gateway.parse import ENDPOINTS
from shared.providers.dialects.passed import FORM

_ERROR = {
    "description": "An error in OpenAI's shape; `error.code` is stable.",
    **content({"$ref": "#/components/schemas/Error"}),
}

_ANTHROPIC_ERROR = {
    "description": "An error in Anthropic's shape; `error.code` is stable.",
    **content({"$ref": "#/components/schemas/AnthropicError"}),
}

_VENDORS = {"anthropic": "Anthropic"}
"""Whose words a dialect is, where it is not OpenAI's."""

_KEYED = ("400", "401", "403", "503")
"""What every path under /v1 may answer."""
_MASTERED = ("401", "403", "503")
"""What every path under /admin may answer."""
_NAMED = ("409", "413", "422")
"""What every POST among them may answer to an Idempotency-Key."""
_CALL = (*_KEYED, "404", "409", "413", "422", "429", "502", "504")

_STATUSES: Mapping[str, tuple[str, ...]] = {
    **openapi_batches.STATUSES,
    **openapi_files.STATUSES,
    **openapi_usage.STATUSES,
    "get_model": ("404",),
    "create_job": ("404", "413", "429"),
    "get_job": ("404",),
    "get_job_result": (*_CALL, "500"),
    "cancel_job": ("404",),
    "delete_job": ("404", "409"),
    "follow_job": ("404",),
    "get_response": ("404",),
    "delete_response": ("404",),
    "list_input_items": ("404",),
    "cancel_response": ("404",),
    **dict.fromkeys(("list_all_jobs", "pause_queue", "resume_queue"), ("400", "413")),
    **dict.fromkeys(
        (
            *("show_job", "cancel_any_job", "drain_worker", "resume_worker"),
            *("list_budget_raises", "end_budget_raise", "show_ledger_row"),
        ),
        ("404",),
    ),
    "retry_job": ("404", "409"),
    "explain_route": ("400", "404"),
    "raise_budget": ("400", "404", "413"),
    "adjust_ledger": ("400", "404", "409", "413", "422"),
    **WEBHOOK_STATUSES,
}

_REQUESTS: Mapping[str, dict[str, Any]] = {
    "create_job": NEW_JOB,
    **openapi_batches.REQUESTS,
    **openapi_files.REQUESTS,
    **WEBHOOK_REQUESTS,
}
"""The bodies that handlers read by themselves."""

_RESULTS: Mapping[tuple[str, str], dict[str, Any]] = {
    **openapi_batches.RESULTS,
    **openapi_files.RESULTS,
    **openapi_usage.RESULTS,
    ("create_job", "202"): content({"$ref": "#/components/schemas/Job"}),
    ("list_jobs", "200"): content(JOBS),
    ("get_job", "200"): content({"$ref": "#/components/schemas/Job"}),
    ("get_job_result", "200"): content({}),
    ("get_job_result", "202"): content({"$ref": "#/components/schemas/Job"}),
    ("cancel_job", "200"): content({"$ref": "#/components/schemas/Job"}),
    ("follow_job", "200"): content({"type": "string"}, "text/event-stream"),
    ("follow_job", "204"): {"description": "All has been told."},
    ("get_response", "200"): {
        "content": {
            "application/json": {"schema": RESPONSE},
            "text/event-stream": {"schema": {"type": "string"}},
        }
    },
    ("list_input_items", "200"): content(ITEMS),
    ("cancel_response", "200"): content(RESPONSE),
    ("readyz", "503"): content({"type": "object"}),
    ("metrics", "200"): content({"type": "string"}, "text/plain"),
    **{(name, "200"): content(schema) for name, schema in WEBHOOK_RESULTS.items()},
}
"""Answers that are made of bytes, of which their handlers' types say nothing."""


class Unserved(Router):
    """Litestar's own pages of the document go here and nowhere; ours are in `handlers/docs.py`.

    Whatever plugins are chosen Litestar serves the document, and to everybody.
    """

    @override
    def register(self, value: ControllerRouterHandler) -> list[BaseRoute]:
        """Take no route."""
        return []


def schema_of(app: Litestar) -> dict[str, Any]:
    """Return the document of everything that is served."""
    document = app.openapi_schema.to_schema()
    paths = {path: _completed(path, item) for path, item in document.get("paths", {}).items()}
    for path, schema in BODIES.items():
        paths[path] = {"post": _inference(path, schema)}
    document["paths"] = dict(sorted(paths.items()))
    components = document.setdefault("components", {})
    components.setdefault("schemas", {}).update(
        {"Error": ERROR, "AnthropicError": ANTHROPIC_ERROR, "Job": JOB}
    )
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    return document


def _completed(path: str, item: dict[str, Any]) -> dict[str, Any]:
    """Return a path's operations with what they answer, and the key they want."""
    keyed = path.startswith("/v1/")
    everywhere = _KEYED if keyed else _MASTERED if path.startswith("/admin/") else ()
    return {
        method: _answering(operation, everywhere, named=keyed and method == "post")
        | ({"security": [{"key": []}]} if everywhere else {})
        for method, operation in item.items()
    }


def _answering(
    operation: dict[str, Any], everywhere: tuple[str, ...], *, named: bool
) -> dict[str, Any]:
    own_id = operation["operationId"]
    statuses = (
        *everywhere,
        *(_NAMED if named else ()),
        *_STATUSES.get(own_id, ()),
    )
    responses = {
        status: response
        for status, response in operation["responses"].items()
        if status != "400"  # Litestar's own shape of an error, which is never sent
    }
    responses |= dict.fromkeys(sorted(statuses), _ERROR)
    for (of, status), body in _RESULTS.items():
        if of == own_id:
            known = responses.get(status, {"description": "See `GET /v1/jobs/{id}`."})
            responses[status] = known | body
    queries = {**QUERY, **openapi_batches.QUERY, **openapi_files.QUERY, **openapi_usage.QUERY}
    queries |= WEBHOOK_QUERY
    parameters = [
        parameter | {"schema": queries.get((own_id, parameter["name"]), parameter["schema"])}
        for parameter in operation.get("parameters", [])
    ]
    if named:
        parameters.append(_IDEMPOTENT)
    completed = operation | {"responses": responses, "parameters": parameters}
    if own_id in _REQUESTS:
        kind = FORM if own_id in openapi_files.FORMS else JSON.decode()
        body = _REQUESTS[own_id]
        # Handlers take no body for an empty one.
        completed["requestBody"] = {"required": bool(body.get("required")), **content(body, kind)}
    return completed


def _inference(path: str, schema: dict[str, Any]) -> dict[str, Any]:
    name = path.removeprefix("/v1/").replace("/", "_")
    served = ENDPOINTS[path]
    vendor = _VENDORS.get(served.dialect, "OpenAI")
    errors = dict.fromkeys(_CALL, _ERROR)
    if served.dialect == "anthropic":
        errors = dict.fromkeys((*_CALL, "529"), _ANTHROPIC_ERROR)
    return {
        "operationId": f"create_{name}",
        "summary": f"{vendor}'s own request and answer; unknown fields pass through",
        "security": [{"key": []}],
        "parameters": [
            _header("Prefer", "`respond-async`, `respond-async, wait=N`: make it a job"),
            _header("X-Sluiceway-Timeout", "seconds for the whole chain", _SECONDS),
            _header("X-Sluiceway-Tags", "`k=v,k=v`", _TAGS),
            _IDEMPOTENT,
            _header("Cache-Control", "`no-cache`, `no-store`, `max-age=N`, where answers are kept"),
        ],
        "requestBody": {
            "required": True,
            **content(schema, FORM if served.form else JSON.decode()),
        },
        "responses": {
            "200": {
                "description": "The provider's answer; with `stream` server-sent events.",
                "content": {
                    "application/json": {"schema": {"type": "object"}},
                    "text/event-stream": {"schema": {"type": "string"}},
                    **_OTHER_ANSWERS.get(path, {}),
                },
            },
            **(_LATER if served.later else {}),
            **errors,
        },
    }


_LATER: Mapping[str, Any] = {
    "202": {
        "description": "Accepted as a job.",
        **content({"$ref": "#/components/schemas/Job"}),
    }
}
_OTHER_ANSWERS: Mapping[str, Mapping[str, Any]] = {
    "/v1/audio/speech": {"audio/*": {"schema": {"type": "string"}}},
    "/v1/audio/transcriptions": {"text/*": {"schema": {"type": "string"}}},
}

_SECONDS = {"type": "number", "exclusiveMinimum": 0, "maximum": DEFAULT_TIMEOUT_S}
_TAGS = {"type": "string", "pattern": "^[^=,]{1,64}=[^,]{0,128}(,[^=,]{1,64}=[^,]{0,128})*$"}


def _header(name: str, text: str, schema: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "name": name,
        "in": "header",
        "description": text,
        "schema": schema or {"type": "string"},
    }


_IDEMPOTENT = _header(
    "Idempotency-Key",
    "Of 1 to 255 characters: the request is done once, see `reference/idempotency`",
)


def page_of(document: dict[str, Any]) -> str:
    """Return the document as a plain page: a row an operation, details folded."""
    rows = []
    for path, item in document["paths"].items():
        for method, operation in item.items():
            text = html.escape(str(operation.get("summary") or operation.get("operationId", "")))
            detail = html.escape(str(operation.get("description", "")))
            rows.append(
                f"<details><summary><b>{method.upper()}</b> <code>{html.escape(path)}</code> "
                f"{text}</summary><pre>{detail}</pre></details>"
            )
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>Sluiceway API</title>"
        "<style>body{font:16px/1.5 system-ui;max-width:56rem;margin:2rem auto;padding:0 1rem}"
        "details{border-bottom:1px solid #ddd;padding:.4rem 0}summary{cursor:pointer}"
        "pre{white-space:pre-wrap}b{display:inline-block;width:4.5rem}</style>"
        "<h1>Sluiceway</h1><p>Machine-readable: <a href=/openapi.json>/openapi.json</a></p>"
        + "".join(rows)
        + "</html>"
    )
