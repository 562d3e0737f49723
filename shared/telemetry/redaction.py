"""Keeping secrets out of whatever is written down: by a field's name, and by a value's look.

Pure. The second net is for secrets inside messages and tracebacks, where no name helps.
"""

import re

HIDDEN = "[hidden]"

_SECRET_NAME = re.compile(
    r"key|authorization|secret|password|passwd|cookie|credentials|(?:^|[_-])token$", re.IGNORECASE
)
# Names that match the pattern above and hold no secret.
_PLAIN_NAMES = frozenset({"key_id", "key_ids", "key_name", "key_hint", "keys", "key_path"})

_SECRET_VALUE = re.compile(
    r"""
      (?P<bearer>\b(?:Bearer|Basic)\s+)[^\s"',]+      # Authorization headers
    | (?P<user>://[^/\s:@"']*:)[^/\s@"']+(?=@)          # passwords inside URLs
    | (?P<query>[?&;][\w\-]*(?:key|token|secret|password|passwd|signature|sig|credential)=)
      [^\s&;"'<>\#]+                                 # parameters of URLs
    | \bsk-[A-Za-z0-9_\-]{8,}                         # OpenAI, Anthropic, our own
    | \b(?:gsk_|xai-|pplx-|whsec_|hf_)[A-Za-z0-9_\-+/=]{8,}
    | \b(?:gh[pousr]_|github_pat_|glpat-|npm_|xox[abeprs]-|[rs]k_live_)[A-Za-z0-9_\-]{10,}
    | \bAIza[A-Za-z0-9_\-]{20,}                       # Google
    | \bya29\.[A-Za-z0-9_\-]{20,}                     # Google's tokens
    | -----BEGIN\ [A-Z ]*PRIVATE\ KEY-----(?s:.*?)(?:-----END\ [A-Z ]*PRIVATE\ KEY-----|\Z)
    | \b(?:AKIA|ASIA)[A-Z0-9]{16}\b                   # AWS
    | \beyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]*   # JSON web tokens
    """,
    re.VERBOSE | re.IGNORECASE,
)
# Each alternative has one of these: finding none takes a hundredth of the pattern's time.
_MARKS = (
    *("bearer", "basic", "://", "sk-", "gsk_", "xai-", "pplx-", "whsec_", "hf_", "aiza", "ya29."),
    *("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "npm_", "xox", "k_live_"),
    *("akia", "asia", "eyj", "private key"),
    *("key=", "token=", "secret=", "password=", "passwd=", "signature=", "sig=", "credential="),
)
_MAX_DEPTH = 6


def names_a_secret(name: str) -> bool:
    """Return whether a field of that name is hidden whatever it holds."""
    return name not in _PLAIN_NAMES and _SECRET_NAME.search(name) is not None


def without_secrets(text: str) -> str:
    """Return the text with everything that looks like a secret replaced."""
    lower = text.lower()
    if not any(mark in lower for mark in _MARKS):
        return text
    return _SECRET_VALUE.sub(_kept_start, text)


def _kept_start(found: re.Match[str]) -> str:
    return (found["bearer"] or found["user"] or found["query"] or "") + HIDDEN


def redacted_value(name: str, value: object, *, depth: int = 0) -> object:
    """Return what may be written for a field; numbers and flags are never secrets."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if names_a_secret(name) or depth > _MAX_DEPTH:
        return HIDDEN
    match value:
        case str():
            return without_secrets(value)
        case bytes():
            return without_secrets(value.decode("utf-8", "replace"))
        case dict():
            return {
                str(key): redacted_value(str(key), inner, depth=depth + 1)
                for key, inner in value.items()
            }
        case list() | tuple() | set() | frozenset():
            return [redacted_value("", inner, depth=depth + 1) for inner in value]
        case _:
            return without_secrets(str(value))
