"""Requests as bytes: the head is built and checked once for each URL and set of headers."""

import base64
import re
from collections.abc import Mapping
from typing import NamedTuple

import msgspec
from yarl import URL

from shared.providers.exchange import HttpRequest
from shared.providers.http1_failures import invalid_request

MAX_HEADS = 256
"""Distinct heads kept; a head holds a key, so they do not pile up for ever."""

IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""Methods that may be sent twice (RFC 9110, 9.2.2)."""

_PORTS = {"http": 80, "https": 443}
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[^\r\n\0]*")
_TARGET = re.compile(r"[!-~]+")
_OURS = frozenset({"content-length", "transfer-encoding"})
"""How the body is framed is decided here; another word on it would tear the connection apart."""


class Origin(NamedTuple):
    """Where connections lead; what is sent to one origin never goes to another."""

    scheme: str
    host: str
    port: int


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """All of a request but its body. `prefix` ends before the line of the length."""

    origin: Origin
    prefix: bytes
    method: str

    def with_body(self, body: bytes) -> bytes:
        """Return the request; a method that needs no body says nothing of an empty one."""
        if not body and self.method in IDEMPOTENT:
            return self.prefix + b"\r\n"
        return b"%bcontent-length: %d\r\n\r\n%b" % (self.prefix, len(body), body)

    def with_length(self, length_bytes: int) -> bytes:
        """Return what stands before a body of this length."""
        return b"%bcontent-length: %d\r\n\r\n" % (self.prefix, length_bytes)


class Heads:
    """Builds heads and remembers them."""

    def __init__(self) -> None:
        self._known: dict[object, Head] = {}

    def of(self, request: HttpRequest) -> Head:
        """Return the head of this request.

        Raises:
            UpstreamError: unsent, when it cannot be written as HTTP; without the values.
        """
        if "x-amz-date" in request.headers:
            return head_of(request)  # signed for this one call: it would only push others out
        key = (request.method, request.url, *request.headers.items())
        head = self._known.get(key)
        if head is None:
            if len(self._known) >= MAX_HEADS:
                self._known.clear()
            head = self._known[key] = head_of(request)
        return head


def head_of(request: HttpRequest) -> Head:
    """Build a head: host first, then the given headers in their order.

    Raises:
        UpstreamError: unsent, when it cannot be written as HTTP; without the values.
    """
    url, host = None, "the provider"
    try:
        # A path that was encoded is signed as it stands: `%3A` must not become `:` on the way.
        url = URL(request.url, encoded="%" in request.url)
        host = url.raw_host or host
        return _build(request.method, url, request.headers)
    except (ValueError, TypeError) as error:
        raise invalid_request(host) from error


def _build(method: str, url: URL, headers: Mapping[str, str]) -> Head:
    if url.scheme not in _PORTS or not url.raw_host or not url.port:
        raise ValueError("not an absolute http or https URL")
    if not _TOKEN.fullmatch(method) or not _TARGET.fullmatch(url.raw_path_qs):
        raise ValueError("not a request line")
    lines = [f"{method} {url.raw_path_qs} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in _complete(url, headers)]
    return Head(
        origin=Origin(url.scheme, url.raw_host, url.port),
        prefix="".join(f"{line}\r\n" for line in lines).encode(),
        method=method,
    )


def _complete(url: URL, headers: Mapping[str, str]) -> list[tuple[str, str]]:
    given = {name.lower() for name in headers}
    lines = [] if "host" in given else [("host", url.host_port_subcomponent or "")]
    if url.user is not None or url.password is not None:
        if "authorization" in given:
            raise ValueError("two authorizations")
        pair = f"{url.user or ''}:{url.password or ''}".encode()
        lines.append(("authorization", "Basic " + base64.b64encode(pair).decode()))
    for name, value in headers.items():
        if not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
            raise ValueError("not a header")
        if name.lower() not in _OURS:
            lines.append((name, value))
    return lines
