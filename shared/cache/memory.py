"""Answers in this process's memory: the longest unused go first."""

from collections import OrderedDict

import msgspec

from shared.cache.bulletin import Bulletin
from shared.cache.entry import Address, Entry, Looked, Mark
from shared.clock import Clock
from shared.telemetry.tally import observe_cache_eviction


class _Kept(msgspec.Struct, frozen=True, gc=False):
    address: Address
    entry: Entry
    at_s: float


class MemoryCache:
    """Keeps what was used last, within a number of answers and of bytes.

    What another process of this machine is told to forget is forgotten here, too: then everything.
    """

    def __init__(
        self,
        *,
        ttl_s: float,
        most_entries: int,
        most_bytes: int,
        most_entry_bytes: int,
        clock: Clock,
        bulletin: Bulletin | None = None,
    ) -> None:
        self._ttl_s = ttl_s
        self._most_entries = most_entries
        self._most_bytes = most_bytes
        self._most_entry_bytes = min(most_entry_bytes, most_bytes)
        self._clock = clock
        self._bulletin = bulletin
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._forgotten = 0
        self._nothing = Looked(mark=(b"0",))
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    async def look(self, address: Address) -> Looked:
        self._hear()
        kept = self._kept.get(address.digest)
        if kept is None:
            return self._nothing
        age_s = self._clock.monotonic() - kept.at_s
        if age_s >= self._ttl_s:
            self._drop(address.digest)
            return self._nothing
        self._kept.move_to_end(address.digest)
        return Looked(mark=self._nothing.mark, entry=kept.entry, age_s=age_s)

    def keep(self, address: Address, entry: Entry, mark: Mark) -> None:
        # What others are told to forget meanwhile is heard before the next look, and goes then.
        size_bytes = entry.size_bytes
        if mark != self._nothing.mark or size_bytes > self._most_entry_bytes:
            return
        if address.digest in self._kept:
            self._drop(address.digest)
        self._kept[address.digest] = _Kept(address, entry, self._clock.monotonic())
        self.size_bytes += size_bytes
        while len(self._kept) > self._most_entries or self.size_bytes > self._most_bytes:
            self._drop(next(iter(self._kept)))
            observe_cache_eviction()

    async def forget(self, *, tenant: str | None, model: str | None) -> int:
        self._hear()
        meant = [
            digest
            for digest, kept in self._kept.items()
            if tenant in {None, kept.address.tenant} and model in {None, kept.address.model}
        ]
        for digest in meant:
            self._drop(digest)
        self._renew_mark()
        if self._bulletin is not None:
            self._bulletin.post()
        return len(meant)

    def _hear(self) -> None:
        if self._bulletin is not None and self._bulletin.has_news():
            self._kept.clear()
            self.size_bytes = 0
            self._renew_mark()

    def _renew_mark(self) -> None:
        self._forgotten += 1
        self._nothing = Looked(mark=(b"%d" % self._forgotten,))

    def _drop(self, digest: str) -> None:
        kept = self._kept.pop(digest, None)
        if kept is not None:
            self.size_bytes -= kept.entry.size_bytes
