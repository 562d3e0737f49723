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


class History:
    """Who has spoken, and how; what was said is not kept.

    `calls`: there are calls of tools, or results. `parts`: some content is a list of parts.
    `plain`: neither, and nobody has spoken but user and assistant, after one system message at
    most. `raw` is the body that this was read from, None where it was the messages alone.
    """

    __slots__ = ("calls", "parts", "plain", "raw", "roles", "turns")

    def __init__(self, turns: Sequence[Turn], raw: bytes | None = None) -> None:
        self.turns = turns
        self.raw = raw
        self.roles = roles = {turn.role for turn in turns}
        self.calls = self.parts = False
        for turn in turns:
            if turn.tool_calls or turn.tool_call_id is not None:
                self.calls = True
            if type(turn.content) is list:
                self.parts = True
            turn.content = None
        self.plain = not self.calls and not self.parts and (roles <= _BOTH or _is_led(turns, roles))


def history_of(messages: msgspec.Raw) -> History | None:
    """Return what a look at the messages tells; None where some are of another form."""
    try:
        return History(_decode_turns(messages))
    except (ValueError, RecursionError):
        return None
