"""Events as people read them, for mail and chat. Pure.

Names in them are callers' own: whoever shows the text escapes it.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from shared.webhooks.event import BUDGET_EXCEEDED, BUDGET_RESET, SPEND_SPIKE, THRESHOLD_REACHED

LONGEST_TEXT = 200


class Wording(msgspec.Struct, frozen=True, kw_only=True):
    """One line that says it all, and what more there is to know, by name."""

    headline: str
    facts: tuple[tuple[str, str], ...] = ()


class _Body(msgspec.Struct):
    id: str
    type: str
    data: dict[str, Any]


Facts = Mapping[str, str]


def wording(body: bytes) -> Wording:
    """Return the words for an event's body; of a type without words of its own, just its name.

    Raises:
        msgspec.DecodeError: it is no event's body.
    """
    event = _decoder.decode(body)
    facts = {key: _shown(key, one) for key, one in event.data.items() if one is not None}
    words = _HEADLINES.get(event.type)
    headline = f"{event.type}: {facts.get('id', '')}" if words is None else words(facts)
    return Wording(headline=headline, facts=(*facts.items(), ("event", event.id)))


_decoder = msgspec.json.Decoder(_Body, float_hook=str)  # dollars keep their digits


def _threshold(facts: Facts) -> str:
    start = f"Budget {facts['id']} "
    share = f"{facts['threshold']} % of ${facts['limit_usd']}"
    if facts["basis"] == "forecast":
        return f"{start}is on the way to {share}: ${facts['forecast_usd']} by its end"
    held = "" if facts["held_usd"] == "0" else f", ${facts['held_usd']} held by running calls"
    return f"{start}has reached {share}: ${facts['spent_usd']} spent{held}"


def _exceeded(facts: Facts) -> str:
    money = f"${facts['spent_usd']} of ${facts['limit_usd']} spent"
    if facts["basis"] == "refused":
        return f"Budget {facts['id']} refuses calls: {money}"
    return f"Budget {facts['id']} is spent: {money}"


def _reset(facts: Facts) -> str:
    limit = f"${facts['limit_usd']} until {facts['resets_at']}"
    return f"Budget {facts['id']} has begun anew: {limit}; ${facts['last_spent_usd']} spent before"


def _spike(facts: Facts) -> str:
    return (
        f"{facts['id']} spent ${facts['spent_usd']} in the hour from {facts['starts_at']}; "
        f"${facts['usual_usd']} is usual"
    )


_HEADLINES: dict[str, Callable[[Facts], str]] = {
    THRESHOLD_REACHED: _threshold,
    BUDGET_EXCEEDED: _exceeded,
    BUDGET_RESET: _reset,
    SPEND_SPIKE: _spike,
}


def _shown(key: str, value: object) -> str:
    """Return a value on one line, moments in UTC."""
    if key.endswith("_at") and isinstance(value, int):
        return f"{datetime.fromtimestamp(value, UTC):%Y-%m-%d %H:%M} UTC"
    text = "".join(letter if letter.isprintable() else " " for letter in str(value))
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"
