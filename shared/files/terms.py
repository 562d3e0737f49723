"""What callers may say of a file, and how long it is kept. Pure."""

import re
from datetime import datetime, timedelta

from shared.errors import InvalidRequest

MIB = 1024 * 1024
PURPOSES = ("assistants", "batch", "evals", "fine-tune", "user_data", "vision")
"""What a caller may give a file; those that we make ourselves have `batch_output`."""
BATCH = "batch"
BATCH_MIB = 200
"""The most that a batch takes; OpenAI's own limit."""
BATCH_KEPT_S = 30 * 86_400
"""How long the input of a batch is kept unless its caller says otherwise; all else is for ever."""
LEAST_KEPT_S = 3_600
MOST_KEPT_S = 2_592_000
ANCHOR = "created_at"
MAX_FILENAME = 255

_folders = re.compile(r".*[/\\]", re.DOTALL)


def checked_purpose(purpose: str | None) -> str:
    """Return the purpose.

    Raises:
        InvalidRequest: there is none, or one that callers cannot give.
    """
    if purpose not in PURPOSES:
        raise InvalidRequest(f"`purpose` must be one of {', '.join(PURPOSES)}.", param="purpose")
    return purpose


def checked_filename(filename: str | None, param: str) -> str:
    """Return the name without folders, which some browsers send.

    Raises:
        InvalidRequest: there is none, or it is longer than 255 characters; tells `param`.
    """
    name = _folders.sub("", filename or "")
    if not name or len(name) > MAX_FILENAME:
        raise InvalidRequest(
            f"A file needs a name of at most {MAX_FILENAME} characters.", param=param
        )
    return name


def most_bytes(purpose: str | None, max_upload_mb: int) -> int:
    """Return how large a file may be; None for a purpose that has not been told yet."""
    return MIB * (min(BATCH_MIB, max_upload_mb) if purpose == BATCH else max_upload_mb)


def checked_expiry(anchor: object, seconds: object) -> int | None:
    """Return after how many seconds a file expires, None when nothing is said (both are None).

    Raises:
        InvalidRequest: something else than OpenAI's own terms.
    """
    if anchor is None and seconds is None:
        return None
    if anchor != ANCHOR:
        raise InvalidRequest(
            f"`expires_after[anchor]` must be '{ANCHOR}'.", param="expires_after[anchor]"
        )
    try:
        length_s = int(str(seconds))
    except ValueError:
        length_s = 0
    if not LEAST_KEPT_S <= length_s <= MOST_KEPT_S:
        raise InvalidRequest(
            f"`expires_after[seconds]` must be from {LEAST_KEPT_S} to {MOST_KEPT_S}.",
            param="expires_after[seconds]",
        )
    return length_s


def expiry(purpose: str, created_at: datetime, after_s: int | None) -> datetime | None:
    """Return when a file is deleted, None for never."""
    if after_s is None and purpose == BATCH:
        after_s = BATCH_KEPT_S
    return None if after_s is None else created_at + timedelta(seconds=after_s)
