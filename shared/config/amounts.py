"""What a number was meant to be that stands with a unit or in quotes. Pure."""

import re
from decimal import Decimal

from msgspec import inspect

_WITH_UNIT = re.compile(r"(?P<number>[0-9][0-9_]*(\.[0-9]+)?) ?(?P<unit>[A-Za-z]+)")
_SECONDS = {
    **dict.fromkeys(("ms", "msec", "millis"), Decimal("0.001")),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), Decimal(1)),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), Decimal(60)),
    **dict.fromkeys(("h", "hr", "hour", "hours"), Decimal(3600)),
    **dict.fromkeys(("d", "day", "days"), Decimal(86_400)),
}
_MEBIBYTES = {
    **dict.fromkeys(("m", "mb", "mib"), Decimal(1)),
    **dict.fromkeys(("g", "gb", "gib"), Decimal(1024)),
}
_COUNTS = {"k": Decimal(1000), "m": Decimal(1_000_000)}


def number_hint(text: str, key: str, kind: inspect.Type, *, quoted: bool) -> str:
    """Return `; write 250` for `250k`, `; leave out the quotes` for `"250"`, else nothing.

    `key` is the name of the field, whose ending says its unit.
    """
    if not isinstance(kind, inspect.IntType | inspect.FloatType):
        return ""
    if quoted and re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", text):
        return "; leave out the quotes"
    found = _WITH_UNIT.fullmatch(text)
    if found is None:
        return ""
    word, units = "", _COUNTS
    if key.endswith("_s"):
        word, units = " (seconds)", _SECONDS
    elif key.endswith("_mb"):
        word, units = " (MiB)", _MEBIBYTES
    factor = units.get(found["unit"].lower())
    if factor is None:
        return "; write the number alone"
    meant = Decimal(found["number"].replace("_", "")) * factor
    whole = meant == meant.to_integral_value()
    return f"; write {meant.to_integral_value() if whole else meant.normalize():f}{word}"
