"""What files and uploads take and answer, where their handlers' types do not say it."""

from collections.abc import Mapping
from typing import Any

from api.openapi_schemas import content
from shared.files.terms import (
    ANCHOR,
    LEAST_KEPT_S,
    MAX_FILENAME,
    MOST_KEPT_S,
    PURPOSES,
)

Schema = dict[str, Any]

STATUSES: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("get_file", "get_file_content", "delete_file"), ("404",)),
    **dict.fromkeys(("create_upload_part", "complete_upload", "cancel_upload"), ("404",)),
}

_BYTES: Schema = {"type": "string", "format": "binary", "minLength": 1}
_PURPOSE: Schema = {"enum": list(PURPOSES)}
_ANCHOR: Schema = {"enum": [ANCHOR]}
_NAME = f"At most {MAX_FILENAME} characters; folders before it are left out."
_SECONDS: Schema = {"type": "integer", "minimum": LEAST_KEPT_S, "maximum": MOST_KEPT_S}

FORMS = frozenset({"create_file", "create_upload_part"})
"""Whose bodies are forms."""

REQUESTS: Mapping[str, Schema] = {
    "create_file": {
        "type": "object",
        "required": ["file", "purpose"],
        "properties": {
            "file": _BYTES,
            "purpose": _PURPOSE,
            "expires_after[anchor]": _ANCHOR,
            "expires_after[seconds]": _SECONDS,
        },
        "dependentRequired": {
            "expires_after[anchor]": ["expires_after[seconds]"],
            "expires_after[seconds]": ["expires_after[anchor]"],
        },
    },
    "create_upload": {
        "type": "object",
        "required": ["bytes", "filename", "mime_type", "purpose"],
        "properties": {
            "bytes": {"type": "integer", "minimum": 1},
            "filename": {"type": "string", "minLength": 1, "description": _NAME},
            "mime_type": {"type": "string"},
            "purpose": _PURPOSE,
            "expires_after": {
                "type": ["object", "null"],
                "required": ["anchor", "seconds"],
                "properties": {"anchor": _ANCHOR, "seconds": _SECONDS},
            },
        },
    },
    "create_upload_part": {
        "type": "object",
        "required": ["data"],
        "properties": {"data": _BYTES},
    },
    "complete_upload": {
        "type": "object",
        "required": ["part_ids"],
        "properties": {
            "part_ids": {"type": "array", "items": {"type": "string"}},
            "md5": {"type": ["string", "null"]},
        },
    },
}

RESULTS: Mapping[tuple[str, str], Schema] = {
    ("get_file_content", "200"): content(_BYTES, "application/octet-stream"),
}

QUERY: Mapping[tuple[str, str], Schema] = {
    ("list_files", "after"): {"type": "string"},
    ("list_files", "purpose"): {"type": "string"},
}
