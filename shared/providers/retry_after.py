"""How long a provider asks to be left alone, from its response headers."""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_UNITS_S = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 0.001, "us": 1e-6, "ns": 1e-9}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|us|ns|d|h|m|s)")
_RESET = re.compile(r"(?:x-)?ratelimit(?:bysize)?-reset(?:-[a-z-]+)?")
"""OpenAI's and most others', Cerebras' (`-tokens-minute`), Mistral's (`bysize`), the IETF's."""

_LIMITED = 429
_EPOCH_S = 1e9
_EPOCH_MS = 1e12
"""A number above is no length but a moment: seconds since 1970, or milliseconds (OpenRouter)."""


def retry_after_s(
    headers: Mapping[str, str], now: datetime | None, *, status: int = _LIMITED
) -> float | None:
    """Return the hint in seconds, None when there is none; names are lower case.

    In this order: `retry-after-ms`, `retry-after` in seconds or as an HTTP date (needs `now`, or
    there is no hint), `x-ratelimit-reset-*`. The resets are read in a 429 alone, for OpenAI sends
    them with every answer: a server error has nothing to do with them. Of the resets those count
    whose `remaining` is 0, the latest of them; when none is, the earliest reset (a request may
    need more than remains).
    """
    in_ms = _seconds(headers.get("retry-after-ms"))
    if in_ms is not None:
        return in_ms / 1000
    plain = headers.get("retry-after")
    in_s = _seconds(plain)
    if in_s is not None:
        return in_s
    until = http_date(plain)
    if until is not None and now is not None:
        return max(0.0, (until - now).total_seconds())
    return _reset_s(headers, now) if status == _LIMITED else None


def may_repeat(headers: Mapping[str, str]) -> bool:
    """Return whether the same may be asked again: `x-should-retry`, which OpenAI's SDKs heed."""
    return headers.get("x-should-retry", "").strip().lower() != "false"


def http_date(value: str | None) -> datetime | None:
    """Return an HTTP date as a moment, None for anything else."""
    if value is None:
        return None
    try:
        found = parsedate_to_datetime(value)
    except (ValueError, TypeError, OverflowError):
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def duration_s(text: str) -> float | None:
    """Return the length of `12ms`, `1.5s`, `6m0s` or `2m59.56s`; None for anything else."""
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return sum(float(number) * _UNITS_S[unit] for number, unit in parts)


def _reset_s(headers: Mapping[str, str], now: datetime | None) -> float | None:
    spent: list[float] = []
    known: list[float] = []
    for name, value in headers.items():
        if _RESET.fullmatch(name) is None or (reset_s := _ahead_s(value.strip(), now)) is None:
            continue
        known.append(reset_s)
        if headers.get(name.replace("-reset", "-remaining"), "").strip() == "0":
            spent.append(reset_s)
    if spent:
        return max(spent)
    return min(known, default=None)


def _ahead_s(text: str, now: datetime | None) -> float | None:
    """Return how far away a reset is that is told as a length, in seconds, or as a moment."""
    number = _seconds(text)
    if number is None:
        return duration_s(text)
    if number < _EPOCH_S:
        return number
    if now is None:
        return None
    return max(0.0, (number / 1000 if number >= _EPOCH_MS else number) - now.timestamp())


def _seconds(value: str | None) -> float | None:
    try:
        found = float(value or "")
    except ValueError:
        return None
    return found if math.isfinite(found) and found >= 0 else None
