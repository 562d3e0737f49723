"""A request's messages as steps look at them: read once, without what is said in them."""

from collections.abc import Sequence
from typing import Any

import msgspec


class MessageHead(msgspec.Struct, gc=False):
    """What steps need to know of a message before they read it whole."""

    role: str
    name: Any = None
    tool_call_id: Any = None


class Called(msgspec.Struct, gc=False):
    """A function, or a tool of one's own kind, that is declared or called."""

    name: Any = None


class Call(msgspec.Struct, gc=False):
    """A call of a tool."""

    id: Any = None
    function: Called | None = None
    custom: Called | None = None


class _Part(msgspec.Struct, gc=False):
    pass


class Turn(MessageHead, gc=False):
    """A message with its calls; of its content only the form is of interest."""

    content: str | list[_Part] | None = None
    tool_calls: list[Call] | None = None


_decode_turns = msgspec.json.Decoder(list[Turn]).decode
_BOTH = frozenset({"user", "assistant"})


def _is_led(turns: Sequence[Turn], roles: set[str]) -> bool:
    """Return whether the first message, and no other, is the system's."""
    others = {turn.role for turn in turns[1:]}
    return others <= _BOTH and roles - others <= {"system"}


class History(msgspec.Struct, frozen=True, gc=False):
    """Who has spoken, and how; what was said is not kept.

    `calls`: there are calls of tools, or results. `parts`: some content is a list of parts.
    `plain`: neither, and nobody has spoken but user and assistant, after one system message at
    most. `raw` is the body that this was read from, None where it was the messages alone.
    """

    turns: Sequence[Turn]
    roles: set[str]
    calls: bool
    parts: bool
    plain: bool
    raw: bytes | None = None


def history_of(messages: msgspec.Raw) -> History | None:
    """Return what a look at the messages tells; None where some are of another form."""
    try:
        return history_in(_decode_turns(messages))
    except (ValueError, RecursionError):
        return None


def history_in(turns: Sequence[Turn], raw: bytes | None = None) -> History:
    """Return what the messages tell, which were read from the body `raw`; forgets what they say."""
    roles: set[str] = set()
    calls = parts = False
    for turn in turns:
        roles.add(turn.role)
        if turn.tool_calls or turn.tool_call_id is not None:
            calls = True
        if type(turn.content) is list:
            parts = True
        turn.content = None
    plain = not calls and not parts and (roles <= _BOTH or _is_led(turns, roles))
    return History(turns, roles, calls, parts, plain, raw)
