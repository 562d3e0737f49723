"""A call that waits for those that came with it.

The way of a call through the gateway is longer than what a processor has at hand of its code. Where
calls stop on the way for a turn of the event loop, those that came a little later catch up, all
walk the same part of the way together, and what they send leaves together. That saves some 6 µs of
a call among 64 and costs one that comes alone some 5: `docs/decisions/0010-what-a-call-costs.md`.
"""

from collections.abc import Generator


class _NextTurn:
    """Goes on with the event loop's next turn. Only tasks can wait for it."""

    __slots__ = ()

    def __await__(self) -> Generator[None, None, None]:
        yield


NEXT_TURN = _NextTurn()
"""`await` it before a part of the way that is long, and that not all calls go."""
