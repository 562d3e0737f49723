"""What is left of a caller's limits, in OpenAI's names and format and in Anthropic's."""

import math
from datetime import datetime, timedelta
from functools import lru_cache

from shared.limits.limiter import Standing

LOCAL = (b"x-sluiceway-limits", b"local")


@lru_cache(maxsize=64)  # calls that were admitted together have one standing
def rate_headers(standing: Standing) -> tuple[tuple[bytes, bytes], ...]:
    """Return OpenAI's headers for what is limited: up to six, none for the rest.

    Another one says so where this process counted alone, for its share.
    """
    headers: list[tuple[bytes, bytes]] = [LOCAL] if standing.local else []
    if standing.limit_requests is not None:
        left = standing.remaining_requests or 0
        resets_in = duration(standing.reset_requests_s or 0.0)
        headers += (
            (b"x-ratelimit-limit-requests", b"%d" % standing.limit_requests),
            (b"x-ratelimit-remaining-requests", b"%d" % left),
            (b"x-ratelimit-reset-requests", resets_in.encode()),
        )
    if standing.limit_tokens is not None:
        left = standing.remaining_tokens or 0
        resets_in = duration(standing.reset_tokens_s or 0.0)
        headers += (
            (b"x-ratelimit-limit-tokens", b"%d" % standing.limit_tokens),
            (b"x-ratelimit-remaining-tokens", b"%d" % left),
            (b"x-ratelimit-reset-tokens", resets_in.encode()),
        )
    return tuple(headers)


def anthropic_rate_headers(standing: Standing, now: datetime) -> list[tuple[bytes, bytes]]:
    """Return Anthropic's headers for the same; moments are RFC 3339, rounded up to a second."""
    headers: list[tuple[bytes, bytes]] = []
    for what, limit, remaining, reset_s in (
        (
            b"requests",
            standing.limit_requests,
            standing.remaining_requests,
            standing.reset_requests_s,
        ),
        (b"tokens", standing.limit_tokens, standing.remaining_tokens, standing.reset_tokens_s),
    ):
        if limit is not None:
            resets_at = now + timedelta(seconds=reset_s or 0.0)
            if resets_at.microsecond:
                resets_at = resets_at.replace(microsecond=0) + timedelta(seconds=1)
            name = b"anthropic-ratelimit-" + what
            headers += [
                (name + b"-limit", b"%d" % limit),
                (name + b"-remaining", b"%d" % (remaining or 0)),
                (name + b"-reset", resets_at.strftime("%Y-%m-%dT%H:%M:%SZ").encode()),
            ]
    return headers


def duration(length_s: float) -> str:
    """Return a length as OpenAI writes it: `12ms`, `1s`, `8.64s`, `6m0s`, `1h0m0s`.

    Rounded up to a millisecond, so that whoever waits that long has waited long enough.
    """
    whole_ms = math.ceil(length_s * 1000 - 1e-6)
    if 0 < whole_ms < 1000:  # noqa: PLR2004 (a second)
        return f"{whole_ms}ms"
    minutes, ms = divmod(max(0, whole_ms), 60_000)
    seconds = f"{ms / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    hours, minutes_left = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes_left}m{seconds}"
    return f"{minutes_left}m{seconds}" if minutes_left else seconds
