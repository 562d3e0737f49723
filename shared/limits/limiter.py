"""What a limiter is asked and what it answers."""

from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec

from shared.config.model import Limits

Policy = Literal["local", "deny", "open"]
"""What decides while Redis is away: each process by its share, a refusal, or nobody."""


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """Whose limits they are: `tenant:acme`, `key:file:acme/ci`, `user:acme/joe`, `route:gpt-4o`.

    One name has one set of limits at a time; a changed set applies from the next call on.
    """

    name: str
    limits: Limits


class Standing(msgspec.Struct, frozen=True, kw_only=True, gc=False, cache_hash=True):
    """What is left of the tightest rate; None where nothing is limited.

    `reset_*_s` is the time in seconds until it would be whole again. `local`: this process counted
    alone, for its share of the limits.
    """

    limit_requests: int | None = None
    remaining_requests: int | None = None
    reset_requests_s: float | None = None
    limit_tokens: int | None = None
    remaining_tokens: int | None = None
    reset_tokens_s: float | None = None
    local: bool = False


class Taken(msgspec.Struct, kw_only=True, eq=False, gc=False):
    """One admitted call; equal only to itself. `until_s` is when its slot ends, monotonic.

    A limiter that waits for its verdict tells `standing` and `until_s` as it admits the call.
    """

    standing: Standing
    scopes: tuple[Scope, ...]
    tokens: int
    slot: str
    until_s: float


class Limiter(Protocol):
    """Admits calls. One per process."""

    @property
    def away(self) -> bool:
        """Whether the shared counts cannot be reached, so that the policy decides."""

    async def take(
        self, scopes: Sequence[Scope], *, tokens: int, slot: str, slot_s: float
    ) -> Taken:
        """Take one request, `tokens` and one slot from every scope, or nothing from any.

        `slot` names the call and is its alone; it ends by itself `slot_s` seconds later. More
        tokens than a bucket can ever hold are admitted when it is full, and leave it in debt.
        Waits for Redis 150 ms at most. Whoever is admitted must call `give_back` or `undo`.

        Raises:
            RateLimitExceeded: with the wait in seconds and the `standing`. Nothing was taken.
            Overloaded: Redis is away and the policy is to refuse.
        """

    def give_back(self, taken: Taken, *, used_tokens: int) -> None:
        """End the call: free its slot, and correct its tokens to those it used.

        Never waits, never fails; only the first end of a call counts.
        """

    def undo(self, taken: Taken) -> None:
        """End the call as if it had never been: the request and all of its tokens come back.

        For calls that a later step of admission refuses. Otherwise as `give_back`.
        """

    async def aclose(self) -> None:
        """Hand in what is still to be given back, within a second."""
