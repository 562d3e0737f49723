"""What the headers of an answer tell: whence it came, what it cost, what is left of limits."""

from collections.abc import Sequence
from functools import lru_cache

from api.asgi import EVENTS, NOSNIFF, lines_of
from api.inference_call import Call, Headers
from shared.gateway.answer import Answer, CacheTold, ServedStream
from shared.ledger.cost import usd_text

_PRINTABLE = bytes(code if 32 <= code != 127 else 63 for code in range(256))  # noqa: PLR2004 (ASCII)
"""A caller's own words may stand in a header; its line breaks may not."""

STREAMING = (
    (b"content-type", EVENTS),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would hold the stream back
    NOSNIFF,
)
CACHE_UNHELPED = {
    "miss": ((b"x-sluiceway-cache", b"miss"),),
    "bypass": ((b"x-sluiceway-cache", b"bypass"),),
}
"""What callers are told whom the cache has not answered."""


def whole_headers(call: Call, answer: Answer) -> Headers:
    """Return the headers that are one whole answer's alone."""
    upstream_ms = 0 if answer.cache is None else answer.cache.waited_ms
    for attempt in answer.attempts:
        upstream_ms += attempt.duration_ms
    headers = [*call.identity(), (b"x-sluiceway-overhead-ms", call.overhead(upstream_ms))]
    if answer.cost_nanousd is not None:
        headers.append((b"x-sluiceway-cost-usd", usd_text(answer.cost_nanousd).encode()))
    return _with_oddities(headers, call, answer)


def whole_lines(call: Call, answer: Answer) -> bytes:
    """Return those it shares with others, as lines."""
    lines = _whence_lines(answer.provider, answer.model, answer.route, len(answer.attempts))
    return lines if answer.standing is None else lines + call.rate_lines(answer.standing)


def stream_headers(call: Call, stream: ServedStream) -> Headers:
    """Return the headers of a stream, sent before its first piece."""
    headers = [
        *call.identity(),
        *_whence(stream.provider, stream.model, stream.route),
        (b"x-sluiceway-attempts", b"%d" % stream.tries),
        (b"x-sluiceway-overhead-ms", call.overhead(stream.waited_ms)),
        *STREAMING,
    ]
    if stream.standing is not None:
        headers += call.rates(stream.standing)
    return _with_oddities(headers, call, stream)


def _with_oddities(headers: Headers, call: Call, answer: Answer | ServedStream) -> Headers:
    """Return the headers with what is not so of most answers."""
    doubt, told = answer.cost_doubt, answer.cache
    if doubt is not None:
        headers.append((b"x-sluiceway-cost", doubt.encode()))
    if answer.dropped:
        headers.append(_dropped(answer.dropped))
    if told is not None:
        call.cached = told.result
        headers += CACHE_UNHELPED.get(told.result) or _hit(told)
    return headers


def _dropped(names: Sequence[str]) -> tuple[bytes, bytes]:
    """Return the header that lists the fields which the target could not be asked."""
    return b"x-sluiceway-dropped", latin(",".join(names))


def _hit(told: CacheTold) -> Headers:
    """Return the headers that tell what the cache has saved."""
    headers = [(b"x-sluiceway-cache", b"hit"), (b"age", b"%d" % told.age_s)]
    if told.saved_nanousd is not None:
        headers.append((b"x-sluiceway-saved-usd", usd_text(told.saved_nanousd).encode()))
    return headers


@lru_cache(maxsize=1024)
def _whence(provider: str, model: str, route: str) -> tuple[tuple[bytes, bytes], ...]:
    return (
        (b"x-sluiceway-provider", provider.encode()),
        (b"x-sluiceway-model", latin(model)),
        (b"x-sluiceway-route", latin(route)),
    )


@lru_cache(maxsize=1024)
def _whence_lines(provider: str, model: str, route: str, tries: int) -> bytes:
    whence = _whence(provider, model, route)
    return lines_of((*whence, (b"x-sluiceway-attempts", b"%d" % tries)))


def latin(text: str) -> bytes:
    """Return text as it may stand in a header."""
    return text.encode("latin-1", "replace").translate(_PRINTABLE)
