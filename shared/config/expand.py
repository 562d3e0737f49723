"""`${VAR}` and `${VAR:-default}` in the file's values. Pure.

A default is plain text: variables inside it are a mistake.

A variable that is set but empty counts as unset, as in `:-` of a shell: compose files pass empty
variables for what nobody filled in. `$${` stands for a plain `${`.
"""

import re
from collections.abc import Mapping

import msgspec

_PLACE = re.compile(r"\$\$\{|\$\{(?P<inside>[^}]*)\}?")
_INSIDE = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<rest>:-(?P<default>.*))?", re.DOTALL)


class Expanded(msgspec.Struct, frozen=True, kw_only=True):
    """A text with its variables filled in; `unset` names those that had nothing to fill in."""

    text: str
    touched: bool = False
    unset: tuple[str, ...] = ()
    malformed: bool = False


def expand(text: str, env: Mapping[str, str]) -> Expanded:
    """Return the text with every variable replaced by its value, its default or nothing."""
    if "${" not in text:
        return Expanded(text=text)
    pieces: list[str] = []
    unset: list[str] = []
    malformed = False
    end = 0
    for place in _PLACE.finditer(text):
        pieces.append(text[end : place.start()])
        end = place.end()
        if place["inside"] is None:
            pieces.append("${")
            continue
        inside = _INSIDE.fullmatch(place["inside"])
        nested = "${" in place["inside"]
        if inside is None or nested or not place[0].endswith("}"):
            malformed = True
            continue
        value = env.get(inside["name"]) or inside["default"]
        if value is None:
            unset.append(inside["name"])
        pieces.append(value or "")
    pieces.append(text[end:])
    return Expanded(text="".join(pieces), touched=True, unset=tuple(unset), malformed=malformed)
