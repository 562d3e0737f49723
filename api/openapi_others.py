"""Request bodies of the endpoints that are passed on, and of the older completions."""

from collections.abc import Mapping
from typing import Any

Schema = dict[str, Any]


def other_bodies(known: Schema, model: Schema) -> Mapping[str, Schema]:
    """Return the bodies by path.

    `known` are the fields whose types are checked wherever they stand.
    """
    texts: Schema = {"type": ["string", "array"]}

    def body(required: list[str], **own: Schema) -> Schema:
        return {
            "type": "object",
            "required": required,
            "properties": {**known, "model": model, **own},
        }

    whole: Schema = {"enum": [False, None]}
    stream_format: Schema = {"type": ["string", "null"]}
    return {
        "/v1/completions": body(["model", "prompt"], prompt=texts),
        "/v1/moderations": body(["input"], input=texts, stream=whole),
        "/v1/images/generations": body(["prompt"], prompt=texts),
        "/v1/audio/speech": body(["model", "input"], input=texts, stream_format=stream_format),
        "/v1/rerank": body(["model", "documents"], documents=texts, stream=whole),
        "/v1/audio/transcriptions": {
            "type": "object",
            "required": ["model", "file"],
            "properties": {
                "model": model,
                "file": {"type": "string", "contentMediaType": "application/octet-stream"},
                "stream": {"type": "boolean"},
            },
        },
    }
