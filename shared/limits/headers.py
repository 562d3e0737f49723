"""`x-ratelimit-*` in OpenAI's names and format."""

import math

from shared.limits.limiter import Standing


def rate_headers(standing: Standing) -> list[tuple[bytes, bytes]]:
    """Return OpenAI's headers for what is limited: up to six, none for the rest."""
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
            headers += [
                (b"x-ratelimit-limit-" + what, b"%d" % limit),
                (b"x-ratelimit-remaining-" + what, b"%d" % (remaining or 0)),
                (b"x-ratelimit-reset-" + what, duration(reset_s or 0.0).encode()),
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
