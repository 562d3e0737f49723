"""Which keys objects may have."""

import re

_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*", re.ASCII)
MAX_LENGTH = 512


def checked(key: str) -> str:
    """Return the key. No segment begins with a dot, so none leads out of a folder.

    Raises:
        ValueError: it is not a key; keys are our own, so that is a bug.
    """
    if len(key) > MAX_LENGTH or _KEY.fullmatch(key) is None:
        raise ValueError(f"not a key of an object: {key[:MAX_LENGTH]!r}")
    return key
