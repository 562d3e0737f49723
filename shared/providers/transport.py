"""Bytes to providers and back, over aiohttp: the way out, should the client of our own fail.

`wiring.py` says for which URLs it is used, by default for none. Its pool survives cancellation,
of which a gateway lives: every client that goes away, every deadline and every fallback cancels a
call. It is kept to the bare wire: no cookies, no proxies from the environment, no redirects, no
decompression, no timeouts but for connecting (first token, idle and attempt are the chain's).
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from functools import lru_cache
from types import TracebackType

import aiohttp
from yarl import URL

from shared.corked import cork_of
from shared.errors import StoreUnavailable, UpstreamError
from shared.providers.exchange import HttpRequest, OpenResponse
from shared.providers.http1_failures import (
    broke_off,
    connect_took_too_long,
    invalid_request,
    no_answer,
    not_http,
    too_large,
    unreachable,
    unresolved,
    unsafe_tls,
)

KEEPALIVE_S = 30.0
"""Idle connections are closed after this; most servers wait longer."""
DNS_TTL_S = 60
HEADER_LINE_LIMIT_BYTES = 16 * 1024
_OWN_HEADERS = frozenset({"Accept", "Accept-Encoding", "User-Agent", "Content-Type"})


class AiohttpResponse:
    """An answer whose head has arrived; header names are found in any case."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status: int = response.status
        self.headers: Mapping[str, str] = response.headers

    async def read(self, limit_bytes: int) -> bytes:
        """Return the rest of the body.

        Raises:
            UpstreamError: MALFORMED above `limit_bytes`, CONNECTION when it breaks off.
        """
        content = self._response.content
        pieces: list[bytes] = []
        size_bytes = 0
        try:
            while piece := await content.readany():
                pieces.append(piece)
                size_bytes += len(piece)
                if size_bytes > limit_bytes:
                    raise too_large(limit_bytes, status=self.status)
        except (aiohttp.ClientError, OSError) as error:
            raise broke_off(type(error).__name__) from error
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body's bytes as they arrive.

        Raises:
            UpstreamError: CONNECTION when it breaks off.
        """
        content = self._response.content
        try:
            while piece := await content.readany():
                yield piece
        except (aiohttp.ClientError, OSError) as error:
            raise broke_off(type(error).__name__) from error


class _OpenCall:
    """The call as a context: entered when the head is there, left with the connection free."""

    def __init__(
        self, session: aiohttp.ClientSession, request: HttpRequest, connect_s: float
    ) -> None:
        self._session = session
        self._request = request
        self._connect_s = connect_s
        self._response: aiohttp.ClientResponse | None = None

    async def __aenter__(self) -> AiohttpResponse:
        request = self._request
        if (undone := cork_of(asyncio.get_running_loop()).run_errands()) is not None:
            raise StoreUnavailable(str(undone)) from undone
        try:
            self._response = await self._session.request(
                request.method,
                _url(request.url),
                data=request.body,
                headers=request.headers,
                allow_redirects=False,
                timeout=_timeout(self._connect_s),
            )
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise failure_of(error, host=_host(request.url)) from error
        return AiohttpResponse(self._response)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._response is not None:
            # A finished body has given its connection back already; any other is cut here, for
            # an abandoned stream is billed to its end.
            self._response.close()


class AiohttpTransport:
    """One pool for one event loop; opened at the first call, closed by `aclose`."""

    def __init__(self, ssl_context: ssl.SSLContext | None = None) -> None:
        self._ssl_context = ssl_context
        self._session: aiohttp.ClientSession | None = None

    def open(
        self, request: HttpRequest, *, connect_s: float
    ) -> AbstractAsyncContextManager[OpenResponse]:
        """Send and wait for the head; 1xx skipped, redirects not followed, nothing decompressed.

        Raises:
            UpstreamError: TIMEOUT when connecting (DNS and TLS included) takes longer than
                `connect_s`, MALFORMED when the head is not HTTP, else CONNECTION.
            StoreUnavailable: what has to be on file before could not be written.
        """
        if self._session is None:
            self._session = self._new_session()
        return _OpenCall(self._session, request, connect_s)

    async def aclose(self) -> None:
        """Close all connections; the transport may be used again afterwards."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _new_session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0,
                ttl_dns_cache=DNS_TTL_S,
                keepalive_timeout=KEEPALIVE_S,
                ssl=True if self._ssl_context is None else self._ssl_context,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            skip_auto_headers=_OWN_HEADERS,
            max_line_size=HEADER_LINE_LIMIT_BYTES,
            max_field_size=HEADER_LINE_LIMIT_BYTES,
        )


def failure_of(error: Exception, *, host: str) -> UpstreamError:
    """Return what went wrong before the head, in words without secrets (the host only)."""
    if isinstance(error, TimeoutError):
        return connect_took_too_long(host)
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        return unsafe_tls(host)
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return unresolved(host)
    if isinstance(error, aiohttp.ClientConnectorError):
        return unreachable(host)
    if isinstance(error, aiohttp.ClientResponseError):
        return not_http(host)
    if isinstance(error, ValueError):
        return invalid_request(host)
    return no_answer(host)


@lru_cache(maxsize=256)
def _url(url: str) -> URL:
    return URL(url, encoded="%" in url)


def _host(url: str) -> str:
    try:
        return _url(url).host or "the provider"
    except ValueError:
        return "the provider"


@lru_cache(maxsize=64)
def _timeout(connect_s: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, connect=connect_s)
