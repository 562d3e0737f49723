"""One question at a time: whoever asks what is being asked already waits for that answer."""

import asyncio

import msgspec

from shared.cache.entry import Entry
from shared.errors import ChainFailed


class Landed(msgspec.Struct, frozen=True, kw_only=True):
    """What a question came to: an answer, or why there is none.

    With neither there is nothing to share, and each goes on alone.
    """

    entry: Entry | None = None
    error: ChainFailed | None = None


class Lead(msgspec.Struct, eq=False):
    """The right, and the duty, to answer a question for all that wait for it.

    It ends once: with `land`, or with `give_up`, after which one of those who wait has the lead.
    """

    _among: "dict[str, Lead] | None"
    _digest: str
    _waiting: "list[asyncio.Future[Landed | None]] | None" = None  # mostly nobody does

    def land(self, entry: Entry | None = None, error: ChainFailed | None = None) -> None:
        """Tell all that wait what it came to; see `Landed`."""
        if self._waiting is not None:
            self._end(Landed(entry=entry, error=error))
        elif self._among is not None:
            self._among.pop(self._digest, None)
            self._among = None

    def give_up(self) -> None:
        """Leave it to another; does nothing after the end."""
        self._end(None)

    def fail(self, failure: BaseException) -> None:
        """Tell all that wait of a failure that is theirs as well, or leave it to another."""
        if isinstance(failure, ChainFailed):
            self.land(error=failure)
        else:
            self.give_up()

    async def wait(self) -> Landed | None:
        """Return what it came to; None when its leader has given up."""
        answer: asyncio.Future[Landed | None] = asyncio.get_running_loop().create_future()
        if self._waiting is None:
            self._waiting = []
        self._waiting.append(answer)
        return await answer

    def _end(self, landed: Landed | None) -> None:
        among, self._among = self._among, None
        if among is not None:
            among.pop(self._digest, None)
        waiting, self._waiting = self._waiting, None
        for answer in waiting or ():
            if not answer.done():  # its caller may have gone
                answer.set_result(landed)


class Flights:
    """The questions that are being asked now, of one process."""

    def __init__(self) -> None:
        self._open: dict[str, Lead] = {}

    def __len__(self) -> int:
        return len(self._open)

    def lead(self, digest: str) -> Lead | None:
        """Return the lead when nobody has it."""
        if digest in self._open:
            return None
        lead = self._open[digest] = Lead(self._open, digest)
        return lead

    async def join(self, digest: str) -> Lead | Landed:
        """Return the lead when nobody has it, else what the one who has it comes to."""
        while (lead := self.lead(digest)) is None:
            landed = await self._open[digest].wait()
            if landed is not None:
                return landed
        return lead

    def apart(self) -> Lead:
        """Return a lead that nobody waits for."""
        return Lead(None, "")
