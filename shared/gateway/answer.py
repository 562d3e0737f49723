"""What goes into the gateway beside the request, and what comes out."""

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Literal, Protocol

import msgspec

from shared.cache.control import CacheControl
from shared.cache.entry import Entry
from shared.chat.usage import Usage
from shared.errors import FailedAttempt
from shared.limits.limiter import Standing
from shared.providers.exchange import Taker
from shared.routing.position import Position


class CallContext(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Who asked for what, for the books and the logs.

    `own_deadline` says that the caller shortened the time by a header. `session` is what the caller
    says belongs together. `cache` is what it says about caching, None where there is no cache.
    `position` is where the chain of a job goes on that has run before. `headers` are those of the
    request that rules ask for, by names in lower case; None where none does.
    """

    request_id: str
    job_id: str | None = None
    batch_id: str | None = None
    tags: dict[str, str] = {}
    user: str | None = None
    session: str | None = None
    own_deadline: bool = False
    cache: CacheControl | None = None
    position: Position | None = None
    headers: Mapping[str, str] | None = None


CostDoubt = Literal["unknown", "estimated"]
"""What a caller should know of a cost: there is no price, or counts or price are made up."""


class CacheTold(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the cache had to do with a call.

    `bypass`: it was not asked. `age_s` is that of a hit in whole seconds, `saved_nanousd` what
    asking again would have cost, None when no price is known. `waited_ms` is how long another, who
    had asked the same, took to get the answer.
    """

    result: Literal["hit", "miss", "bypass"]
    age_s: int = 0
    saved_nanousd: int | None = None
    waited_ms: int = 0


MISS = CacheTold(result="miss")
BYPASS = CacheTold(result="bypass")


def hit(entry: Entry, *, age_s: float = 0.0, waited_s: float = 0.0) -> CacheTold:
    """Return what is told of an answer from the cache."""
    return CacheTold(
        result="hit",
        age_s=int(age_s),
        saved_nanousd=entry.cost_nanousd,
        waited_ms=round(waited_s * 1000),
    )


class Answer(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A whole answer in the served dialect.

    `model` is the upstream model asked, `reported_model` what the provider called itself.
    `attempts` lists every try, the good one last. `cost_nanousd` sums the priced ones of them
    and is None when the good one has no price. `standing` is what is left of the caller's limits.
    `media_type` is that of the body, None for JSON.
    `dropped` are the caller's fields that the target could not be asked. `cost_doubt` is what is
    not sure of the cost. `given_by` is the route of the target that gave it, which a fallback makes
    another than `route`, and `given_nanousd` the cost of that one try.
    """

    body: bytes
    route: str
    provider: str
    model: str
    reported_model: str | None
    attempts: tuple[FailedAttempt, ...]
    usage: Usage | None
    cost_nanousd: int | None
    cost_doubt: CostDoubt | None = None
    standing: Standing | None = None
    dropped: tuple[str, ...] = ()
    media_type: str | None = None
    status: int = 200
    cache: CacheTold | None = None
    given_by: str = ""
    given_nanousd: int | None = None


def noting(taker: Taker, note: Callable[[bytes], None]) -> Taker:
    """Return the taker that has all noted which it has taken. `note` must not fail: see `piece`."""

    def noted(piece: bytes) -> bool:
        if not taker(piece):
            return False
        note(piece)
        return True

    return noted


class ServedStream(Protocol):
    """An answer on its way, in the served dialect: pieces of bytes, the first with content.

    `tries` is how many calls it took to get here, `waited_ms` how long providers have taken so far;
    the others are as those of Answer. Whoever has it must close it.
    """

    cache: CacheTold | None

    @property
    def cost_doubt(self) -> CostDoubt | None: ...

    @property
    def route(self) -> str: ...

    @property
    def provider(self) -> str: ...

    @property
    def model(self) -> str: ...

    @property
    def tries(self) -> int: ...

    @property
    def attempts(self) -> tuple[FailedAttempt, ...]: ...

    @property
    def waited_ms(self) -> int: ...

    @property
    def dropped(self) -> tuple[str, ...]: ...

    @property
    def standing(self) -> Standing | None: ...

    async def piece(self) -> bytes | None:
        """Return the next bytes, or None after the last."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def __anext__(self) -> bytes: ...

    def pass_to(self, taker: Taker) -> None:
        """Give `taker` pieces as they arrive, without waking whoever waits for the next.

        The one who waits gets what it does not take, the end and every failure; it may get all.
        """

    async def aclose(self) -> None:
        """Free the upstream at once and settle; safe to call twice."""
