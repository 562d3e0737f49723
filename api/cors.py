"""Cross-origin calls from browsers: `server.cors` lists the origins, `*` is any."""

from collections.abc import Iterable, Mapping

from litestar.types import Message, Send

Headers = list[tuple[bytes, bytes]]

METHODS = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
MAX_AGE_S = 7200
"""Chromium keeps the answer to a preflight no longer."""

EXPOSED = (
    "x-request-id",
    "request-id",
    "retry-after",
    "location",
    "idempotent-replayed",
    "preference-applied",
    "x-should-retry",
    "x-ratelimit-limit-requests",
    "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-requests",
    "x-ratelimit-reset-tokens",
    *(
        f"anthropic-ratelimit-{what}-{fact}"
        for what in ("requests", "tokens")
        for fact in ("limit", "remaining", "reset")
    ),
    "x-sluiceway-attempts",
    "x-sluiceway-cache",
    "x-sluiceway-cost",
    "x-sluiceway-cost-usd",
    "x-sluiceway-dropped",
    "x-sluiceway-estimated",
    "x-sluiceway-job",
    "x-sluiceway-limits",
    "x-sluiceway-model",
    "x-sluiceway-overhead-ms",
    "x-sluiceway-provider",
    "x-sluiceway-route",
)
"""What a page's script may read of an answer beside its body."""


class Cors:
    """What is said to browsers. Keys come in a header, never in a cookie: no credentials mode."""

    def __init__(self, origins: Iterable[str]) -> None:
        known = {origin.rstrip("/").lower().encode() for origin in origins}
        self._any = b"*" in known
        self._known = frozenset(known)

    def allows(self, origin: bytes) -> bool:
        """Say whether pages of that origin may call."""
        return self._any or origin.lower() in self._known

    def preflight(self, origin: bytes, headers: Mapping[bytes, bytes]) -> Headers | None:
        """Return the headers of the answer when the OPTIONS request is a browser's question."""
        if b"access-control-request-method" not in headers:
            return None
        asked = headers.get(b"access-control-request-headers", b"")
        return [
            *self._allowed(origin),
            (b"access-control-allow-methods", METHODS),
            (b"access-control-allow-headers", asked or b"*"),
            (b"access-control-max-age", b"%d" % MAX_AGE_S),
        ]

    def exposing(self, send: Send, origin: bytes) -> Send:
        """Return a `send` that lets a page of that origin read the answer."""
        more = [
            *self._allowed(origin),
            (b"access-control-expose-headers", ", ".join(EXPOSED).encode()),
        ]

        async def exposed(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *more]
            await send(message)

        return exposed

    def _allowed(self, origin: bytes) -> Headers:
        if self._any:
            return [(b"access-control-allow-origin", b"*")]
        return [(b"access-control-allow-origin", origin), (b"vary", b"origin")]
