"""A kept answer, the place where it is kept, and what a cache can do."""

from typing import Protocol

import msgspec

from shared.chat.usage import Usage

ENTRY_BESIDES_BYTES = 512
"""What an entry takes beside its body, roughly."""


class Address(msgspec.Struct, frozen=True, gc=False):
    """Where an answer is kept. `tenant` is empty where tenants share their answers.

    `digest` stands for all of the question, the other two included.
    """

    tenant: str
    model: str
    digest: str


class Entry(msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """A whole answer in the served dialect, and what it took to get it.

    `cost_nanousd` is what asking again would cost, None when no price is known.
    `dropped` are fields of the question that its target could not be asked.
    """

    body: bytes
    route: str
    provider: str
    model: str
    reported_model: str | None = None
    usage: Usage | None = None
    cost_nanousd: int | None = None
    dropped: tuple[str, ...] = ()


Mark = tuple[bytes, ...]
"""Changes when answers at an address are forgotten: one asked for before must not be kept after."""


class Looked(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a look found. `age_s` is that of the entry, in seconds."""

    mark: Mark
    entry: Entry | None = None
    age_s: float = 0.0


class CacheAway(Exception):
    """The cache does not answer."""


class AnswerCache(Protocol):
    """Keeps answers for a while. Losing any of them loses no more than time and money."""

    def at_hand(self, address: Address) -> Looked | None:
        """Return what `look` would, None where only that can tell, for it has to wait."""

    async def look(self, address: Address) -> Looked | None:
        """Return what is there; None when the cache cannot be asked. Waits 0.2 s at most."""

    def keep(self, address: Address, entry: Entry, mark: Mark) -> None:
        """Keep an answer, unless those of its kind have been forgotten since `mark` was seen.

        Never waits and never fails; what is too large is not kept.
        """

    async def forget(self, *, tenant: str | None, model: str | None) -> int:
        """Forget the answers of a tenant, of a model, of both or all; return how many.

        What is being asked now and was asked before is not kept either.

        Raises:
            CacheAway: the cache does not answer; some may be left.
        """
