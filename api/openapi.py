"""The OpenAPI document: Litestar's, with the raw inference routes written in."""

import html
from typing import Any

from litestar import Litestar, Router
from litestar.routes import BaseRoute
from litestar.types import ControllerRouterHandler
from typing_extensions import override

_ERROR = {
    "description": "An error in OpenAI's shape; `error.code` is stable.",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
}

_STATUSES = ("400", "401", "404", "413", "429", "502", "503", "504")


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
    paths = {path: _secured(path, item) for path, item in document.get("paths", {}).items()}
    paths["/v1/chat/completions"] = {"post": _inference(_CHAT, "create_chat_completion", "Chat")}
    paths["/v1/embeddings"] = {"post": _inference(_EMBEDDINGS, "create_embeddings", "Embeddings")}
    document["paths"] = dict(sorted(paths.items()))
    components = document.setdefault("components", {})
    components.setdefault("schemas", {})["Error"] = _ERROR_SCHEMA
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    return document


def _secured(path: str, item: dict[str, Any]) -> dict[str, Any]:
    if not path.startswith("/v1/"):
        return item
    return {method: operation | {"security": [{"key": []}]} for method, operation in item.items()}


def _inference(schema: dict[str, Any], operation_id: str, title: str) -> dict[str, Any]:
    return {
        "operationId": operation_id,
        "summary": f"{title}: OpenAI's own request and answer; unknown fields pass through",
        "security": [{"key": []}],
        "parameters": [
            _header("Prefer", "`respond-async`, `respond-async, wait=N`: make it a job"),
            _header("X-Sluiceway-Timeout", "seconds for the whole chain"),
            _header("X-Sluiceway-Tags", "`k=v,k=v`"),
        ],
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": {
            "200": {
                "description": "The provider's answer; with `stream` server-sent events.",
                "content": {
                    "application/json": {"schema": {"type": "object"}},
                    "text/event-stream": {"schema": {"type": "string"}},
                },
            },
            "202": {"description": "Accepted as a job.", "content": {"application/json": {}}},
            **dict.fromkeys(_STATUSES, _ERROR),
        },
    }


def _header(name: str, text: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "description": text, "schema": {"type": "string"}}


_ERROR_SCHEMA = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
                "attempts": {"type": "array", "items": {"type": "object"}},
            },
            "required": ["message", "type", "param", "code"],
        }
    },
    "required": ["error"],
}

_CHAT = {
    "type": "object",
    "required": ["model", "messages"],
    "properties": {
        "model": {"type": "string"},
        "messages": {"type": "array", "minItems": 1, "items": {"type": "object"}},
        "stream": {"type": "boolean"},
        "stream_options": {
            "type": "object",
            "properties": {"include_usage": {"type": "boolean"}},
        },
        "max_completion_tokens": {"type": "integer"},
        "tools": {"type": "array", "items": {"type": "object"}},
    },
}

_EMBEDDINGS = {
    "type": "object",
    "required": ["model", "input"],
    "properties": {
        "model": {"type": "string"},
        "input": {},
        "encoding_format": {"enum": ["float", "base64"]},
        "dimensions": {"type": "integer"},
    },
}


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
