"""What a caller may ask of a batch, checked. Pure."""

import re
from datetime import timedelta

import msgspec

from shared.errors import InvalidRequest
from shared.files.terms import ANCHOR, BATCH_MIB, LEAST_KEPT_S, MIB, MOST_KEPT_S
from shared.jobs.submit import ENDPOINTS
from shared.store.records import Priority

IMMEDIATE = "immediate"
IMMEDIATE_LENGTH = timedelta(hours=1)
LONGEST = timedelta(days=7)
_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
_window = re.compile(r"([1-9][0-9]{0,5})([mhd])")

KEPT_FOR_S = MOST_KEPT_S
"""How long output files live unless told otherwise."""

MOST_BYTES = BATCH_MIB * MIB
"""The largest input file, as at OpenAI."""
MOST_LINES = 50_000
"""Lines of one input file, as at OpenAI."""


class Expiry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`output_expires_after`: seconds after the output files were made."""

    anchor: object = None
    seconds: object = None


def window_length(window: str) -> timedelta:
    """Return how long a batch has: `immediate` is an hour, else such as `30m`, `24h` or `7d`.

    Raises:
        InvalidRequest: it is neither, or longer than 7 days.
    """
    if window == IMMEDIATE:
        return IMMEDIATE_LENGTH
    match = _window.fullmatch(window)
    length = None if match is None else int(match[1]) * _UNITS[match[2]]
    if length is None or length > LONGEST:
        raise InvalidRequest(
            "completion_window must be `immediate`, or minutes, hours or days such as `30m`, "
            f"`24h` or `{LONGEST.days}d`, at most {LONGEST.days} days.",
            param="completion_window",
        )
    return length


def priority_of(window: str) -> Priority:
    """Return the class of a batch's lines: one that is wanted at once is no bulk work."""
    return "default" if window == IMMEDIATE else "batch"


def check_endpoint(endpoint: str) -> str:
    """Return the endpoint.

    Raises:
        InvalidRequest: its calls cannot be jobs.
    """
    if endpoint not in ENDPOINTS:
        raise InvalidRequest(
            f"endpoint must be one of {', '.join(sorted(ENDPOINTS))}.", param="endpoint"
        )
    return endpoint


def kept_for_s(expiry: Expiry | None) -> int:
    """Return how many seconds the output files are kept.

    Raises:
        InvalidRequest: another anchor, or not within an hour and 30 days.
    """
    if expiry is None:
        return KEPT_FOR_S
    if expiry.anchor != ANCHOR:
        raise InvalidRequest(
            f"output_expires_after.anchor must be {ANCHOR}.", param="output_expires_after.anchor"
        )
    seconds = expiry.seconds
    if isinstance(seconds, float) and seconds.is_integer():  # to JSON 3600.0 is an integer
        seconds = int(seconds)
    if isinstance(seconds, int) and LEAST_KEPT_S <= seconds <= MOST_KEPT_S:
        return seconds
    raise InvalidRequest(
        f"output_expires_after.seconds must be from {LEAST_KEPT_S} to {MOST_KEPT_S}.",
        param="output_expires_after.seconds",
    )
