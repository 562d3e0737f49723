"""Writing AWS event-stream frames: the other side of what the product reads."""

import json
import struct
import zlib
from collections.abc import Mapping


def event(name: str, payload: object) -> bytes:
    """One event of a stream, padded as the service pads it."""
    padded = {**payload, "p": "abcdefgh"} if isinstance(payload, Mapping) else payload
    return frame({":event-type": name, ":message-type": "event"}, padded)


def exception(name: str, payload: object) -> bytes:
    """An exception inside a stream."""
    return frame({":exception-type": name, ":message-type": "exception"}, payload)


def frame(headers: Mapping[str, str], payload: object) -> bytes:
    """Any frame with text headers and a JSON payload."""
    told = {**headers, ":content-type": "application/json"}
    head = b"".join(
        struct.pack(">B", len(name)) + name.encode() + struct.pack(">BH", 7, len(value)) + value
        for name, value in ((name, text.encode()) for name, text in told.items())
    )
    body = json.dumps(payload, separators=(",", ":"), ensure_ascii=False).encode()
    prelude = struct.pack(">II", 16 + len(head) + len(body), len(head))
    message = prelude + struct.pack(">I", zlib.crc32(prelude)) + head + body
    return message + struct.pack(">I", zlib.crc32(message))
