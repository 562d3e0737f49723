"""Fetching what lies at the URLs of a request, for providers that cannot do it themselves.

A caller names the address, so the guard of webhooks stands in front of it: what is dialled must be
public, at every redirect anew. The size counts while the bytes arrive, not when they are there.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urljoin, urlsplit

from shared.clock import Clock
from shared.config.conduct import FilesConfig
from shared.errors import InvalidRequest
from shared.providers.request import FetchedFile

if TYPE_CHECKING:
    import aiohttp
    from aiohttp.abc import AbstractResolver

USER_AGENT = "sluiceway-files/1"
MOST_REDIRECTS = 3
MOST_AT_ONCE = 4
LONGEST_URL = 8192
MB = 1024 * 1024
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_SHOWN = 200
_UNTOLD = frozenset({"", "application/octet-stream", "binary/octet-stream"})
_BEGINNINGS = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"%PDF-", "application/pdf"),
)


class NotFetched(InvalidRequest):
    """A file at a URL of the caller's cannot be had. Another target may not need it."""


class Fetcher(Protocol):
    """Brings files from the network."""

    async def fetch(self, urls: Sequence[str]) -> Mapping[str, FetchedFile]:
        """Return what lies at each of the URLs, all of it or nothing.

        Raises:
            NotFetched: one of them cannot be had, or must not be; the text names it.
        """


class GuardedFetcher:
    """Fetches within the bounds of the config. `names` replaces the system's resolver in tests."""

    def __init__(
        self, config: FilesConfig, clock: Clock, *, names: "AbstractResolver | None" = None
    ) -> None:
        self._config = config
        self._clock = clock
        self._names = names

    async def fetch(self, urls: Sequence[str]) -> Mapping[str, FetchedFile]:
        """Return what lies at each of the URLs; a few are fetched at a time.

        Raises:
            NotFetched: too many, too large, too slow, refused, or not there.
        """
        if len(urls) > self._config.max_count:
            raise NotFetched(
                f"The request names {len(urls)} URLs to fetch; at most {self._config.max_count} "
                "are. Send the content itself."
            )
        room = _Room(self._config.max_mb * MB)
        slots = asyncio.Semaphore(MOST_AT_ONCE)

        async def one(url: str) -> FetchedFile:
            async with slots:
                return await self._one(url, room)

        tasks = [asyncio.ensure_future(one(url)) for url in urls]
        try:
            found = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        return dict(zip(urls, found, strict=True))

    async def _one(self, url: str, room: "_Room") -> FetchedFile:
        import aiohttp

        try:
            async with self._clock.timeout(self._config.timeout_s):
                return await self._follow(url, room)
        except TimeoutError as error:
            raise _failed(url, f"it took more than {self._config.timeout_s:g} s") from error
        except (aiohttp.ClientError, OSError, ValueError, asyncio.IncompleteReadError) as error:
            from shared.webhooks.guard import refused

            # Which address a name leads to is not the caller's to learn.
            why = "it must not be reached" if refused(error) else "it cannot be reached"
            raise _failed(url, why) from error

    async def _follow(self, url: str, room: "_Room") -> FetchedFile:
        at = url
        for _ in range(MOST_REDIRECTS + 1):
            _check(url, at)
            async with self._session() as session:
                found = await self._get(session, url, at, room)
            if isinstance(found, FetchedFile):
                return found
            at = urljoin(at, found)
        raise _failed(url, "it is redirected too often")

    async def _get(
        self, session: "aiohttp.ClientSession", url: str, at: str, room: "_Room"
    ) -> FetchedFile | str:
        """Return the file, or where it is said to be instead."""
        async with session.get(
            at,
            headers={"user-agent": USER_AGENT, "accept": "*/*", "accept-encoding": "identity"},
            allow_redirects=False,
        ) as answer:
            if answer.status in _REDIRECTS and "location" in answer.headers:
                return answer.headers["location"]
            if answer.status != 200:  # noqa: PLR2004
                raise _failed(url, f"it answered {answer.status}")
            if answer.headers.get("content-encoding", "identity").lower() != "identity":
                raise _failed(url, "it is encoded without being asked")
            pieces: list[bytes] = []
            async for piece in answer.content.iter_any():
                if not room.takes(len(piece)):
                    raise _failed(url, f"the files are larger than {self._config.max_mb} MiB")
                pieces.append(piece)
            content = b"".join(pieces)
            return FetchedFile(
                media_type=_media_type(answer.headers.get("content-type", ""), content),
                content=content,
            )

    def _session(self) -> "aiohttp.ClientSession":
        import aiohttp

        from shared.webhooks.egress import networks
        from shared.webhooks.guard import guarded_connector

        return aiohttp.ClientSession(
            connector=guarded_connector(
                networks(self._config.allow_networks),
                # Plain http is the caller's own risk: nothing of ours is sent.
                encrypted=True,
                names=self._names,
            ),
            trust_env=False,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),  # ours is around it all
        )


class _Room:
    """What all files of a request may still weigh."""

    def __init__(self, left_bytes: int) -> None:
        self._left_bytes = left_bytes

    def takes(self, size_bytes: int) -> bool:
        self._left_bytes -= size_bytes
        return self._left_bytes >= 0


def _check(url: str, at: str) -> None:
    """Return if the form of an address is that of a file's.

    Raises:
        NotFetched: it is not http or https, too long, or holds credentials.
    """
    parts = urlsplit("")
    try:
        parts = urlsplit(at)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or len(at) > LONGEST_URL or "\\" in at or "@" in parts.netloc:
        raise _failed(url, "it is no plain http or https URL")


def _media_type(told: str, content: bytes) -> str:
    """Return the type: as told, or by its beginning where the server does not know."""
    plain = told.partition(";")[0].strip().lower()
    if plain not in _UNTOLD:
        return plain
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for beginning, kind in _BEGINNINGS if content.startswith(beginning)), plain)


def _failed(url: str, why: str) -> NotFetched:
    shown = url.partition("?")[0]  # what follows is often a signature
    shown = shown if len(shown) <= _SHOWN else shown[:_SHOWN] + "…"
    return NotFetched(f"The file at {shown} was not fetched: {why}.", param="messages")
