"""What a request says about caching: the directives of `Cache-Control` that are obeyed. Pure."""

import msgspec


class CacheControl(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """`no_cache`: ask anew, and keep the answer. `no_store`: neither look nor keep.

    `max_age_s` is how old a kept answer may be at most; None leaves it to the config.
    """

    no_cache: bool = False
    no_store: bool = False
    max_age_s: int | None = None


PLAIN = CacheControl()
"""A request that says nothing."""

_MOST_DIGITS = 10


def read_control(header: bytes | None) -> CacheControl:
    """Return what the header says; directives that are not known mean nothing.

    An age that is no number of seconds is one of 0: too careful rather than too old.
    """
    if header is None:
        return PLAIN
    no_cache = no_store = False
    max_age_s: int | None = None
    for directive in header.decode("latin-1").lower().split(","):
        name, _, value = directive.strip().partition("=")
        match name.strip():
            case "no-cache":
                no_cache = True
            case "no-store":
                no_store = True
            case "max-age":
                max_age_s = _seconds(value.strip().strip('"'))
            case _:
                pass
    return CacheControl(no_cache=no_cache, no_store=no_store, max_age_s=max_age_s)


def _seconds(digits: str) -> int:
    return int(digits[:_MOST_DIGITS]) if digits.isascii() and digits.isdigit() else 0
