"""A request's head, pure: what of it is taken apart, and what is said of one that is none."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from urllib.parse import unquote

import httptools

MAX_HEAD_BYTES = 64 * 1024
MAX_HEADERS = 100

_OF_AN_UPGRADE = frozenset({b"connection", b"upgrade", b"http2-settings"})

_ONE_HOST = "A request needs exactly one `Host` header."
TOO_LONG = f"The head of the request is longer than {MAX_HEAD_BYTES // 1024} KiB."


class Refused(Exception):
    """The bytes cannot be taken as a request; the text is for the caller."""


def check(
    version: str,
    method: bytes,
    headers: Sequence[tuple[bytes, bytes]],
    named: Mapping[bytes, bytes],
) -> None:
    """Return if the head is one of a request that is served here. `named`: the same by name.

    Raises:
        Refused: it is not.
    """
    if version not in {"1.1", "1.0"}:
        raise Refused(f"HTTP/{version} is not served; use HTTP/1.1.")
    if b"host" not in named:
        if version == "1.1":
            raise Refused(_ONE_HOST)
    elif len(named) < len(headers) and sum(name == b"host" for name, _ in headers) > 1:
        raise Refused(_ONE_HOST)
    if len(headers) > MAX_HEADERS:
        raise Refused(f"More than {MAX_HEADERS} headers.")
    if method == b"CONNECT":
        raise Refused("This is no proxy.")


@lru_cache(maxsize=64)
def target_of(url: bytes) -> tuple[str, bytes, bytes]:
    """Return the path of a request's target, as text and as it came, and the query."""
    parsed = httptools.parse_url(url)
    raw_path = parsed.path or b"/"  # of a target that names no more than the host
    path = raw_path.decode("ascii")
    return unquote(path) if "%" in path else path, raw_path, parsed.query or b""


def without_upgrade(
    method: bytes, url: bytes, version: str, headers: Sequence[tuple[bytes, bytes]]
) -> bytes:
    """Return a head as it would be without the wish for another protocol."""
    tokens = [
        token.strip()
        for name, value in headers
        if name == b"connection"
        for token in value.split(b",")
    ]
    kept = [token for token in tokens if token.lower() not in _OF_AN_UPGRADE]
    lines = [method + b" " + url + b" HTTP/" + version.encode()]
    lines += [name + b": " + value for name, value in headers if name not in _OF_AN_UPGRADE]
    if kept:
        lines.append(b"connection: " + b", ".join(kept))
    return b"\r\n".join(lines) + b"\r\n\r\n"


def reason_of(error: httptools.HttpParserError) -> str:
    """Return what a caller is told of bytes that are no request."""
    cause = error.__context__
    if isinstance(cause, Refused):
        return str(cause)
    if isinstance(error, httptools.HttpParserInvalidURLError) or cause is not None:
        return "The request's target is not a path."
    return f"This is not HTTP/1.1 (RFC 9112): {error}."
