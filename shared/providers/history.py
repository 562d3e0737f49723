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


class History:
    """Who has spoken, and how; what was said is not kept.

    `calls`: there are calls of tools, or results. `parts`: some content is a list of parts. `raw`
    is the body that this was read from, None where it was the messages alone.
    """

    __slots__ = ("calls", "parts", "raw", "roles", "turns")

    def __init__(self, turns: Sequence[Turn], raw: bytes | None = None) -> None:
        self.turns = turns
        self.raw = raw
        self.roles: set[str] = set()
        self.calls = self.parts = False
        for turn in turns:
            self.roles.add(turn.role)
            if turn.tool_calls or turn.tool_call_id is not None:
                self.calls = True
            if type(turn.content) is list:
                self.parts = True
            turn.content = None


def history_of(messages: msgspec.Raw) -> History | None:
    """Return what a look at the messages tells; None where some are of another form."""
    try:
        return History(_decode_turns(messages))
    except (ValueError, RecursionError):
        return None
