"""Answers in this process's memory: the longest unused go first."""

from itertools import islice

import msgspec

from shared.cache.bulletin import Bulletin
from shared.cache.entry import ENTRY_BESIDES_BYTES, Address, Entry, Looked, Mark
from shared.clock import Clock
from shared.telemetry.tally import CACHE_EVICTED

BESIDES_BYTES = 256
"""What one takes beside its own bytes, roughly: its name and its place."""

PARTS = 64
"""The longest unused leave together, one part of so many: to look for the oldest means to pass by
all that have left a dict since it was last built anew."""


class _Kept(msgspec.Struct, frozen=True, array_like=True, gc=False):
    at_s: float
    tenant: str
    model: str
    entry: Entry


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Kept).decode


class MemoryCache:
    """Keeps what was used last, within a number of answers and of bytes.

    What another process of this machine is told to forget is forgotten here, too: then everything.
    Each is kept as one string of bytes: the objects of ten thousand would lie all over the memory,
    and each call would wait for those that it pushes out.
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
        self._most_body_bytes = min(most_entry_bytes, most_bytes) - ENTRY_BESIDES_BYTES
        self._clock = clock
        self._bulletin = bulletin
        self._kept: dict[str, bytes] = {}  # the longest unused first
        self._forgotten = 0
        self._nothing = Looked(mark=(b"0",))
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    async def look(self, address: Address) -> Looked:
        return self.at_hand(address)

    def at_hand(self, address: Address) -> Looked:
        bulletin = self._bulletin
        if bulletin is not None and bulletin.shown != bulletin.seen:
            self._hear(bulletin)
        stored = self._kept.get(address.digest)
        if stored is None:
            return self._nothing
        kept = _decode(stored)
        age_s = self._clock.monotonic() - kept.at_s
        if age_s >= self._ttl_s:
            self._drop(address.digest)
            return self._nothing
        self._kept[address.digest] = self._kept.pop(address.digest)
        return Looked(mark=self._nothing.mark, entry=kept.entry, age_s=age_s)

    def keep(self, address: Address, entry: Entry, mark: Mark) -> None:
        # What others are told to forget meanwhile is heard before the next look, and goes then.
        if mark != self._nothing.mark or len(entry.body) > self._most_body_bytes:
            return
        kept, digest = self._kept, address.digest
        if digest in kept:
            self._drop(digest)
        # As a _Kept, which need not be made for it.
        stored = _encode((self._clock.monotonic(), address.tenant, address.model, entry))
        kept[digest] = stored
        self.size_bytes += len(stored) + BESIDES_BYTES
        while len(kept) > self._most_entries or self.size_bytes > self._most_bytes:
            self._make_room()

    async def forget(self, *, tenant: str | None, model: str | None) -> int:
        if self._bulletin is not None and self._bulletin.shown != self._bulletin.seen:
            self._hear(self._bulletin)
        meant = [
            digest
            for digest, kept in ((digest, _decode(stored)) for digest, stored in self._kept.items())
            if tenant in {None, kept.tenant} and model in {None, kept.model}
        ]
        for digest in meant:
            self._drop(digest)
        self._renew_mark()
        if self._bulletin is not None:
            self._bulletin.post()
        return len(meant)

    def _make_room(self) -> None:
        """Let a part of all go, the longest unused."""
        kept = self._kept
        oldest = list(islice(kept, len(kept) // PARTS or 1))
        self.size_bytes -= BESIDES_BYTES * len(oldest) + sum(map(len, map(kept.pop, oldest)))
        for _ in oldest:
            CACHE_EVICTED.note()

    def _hear(self, bulletin: Bulletin) -> None:
        """Forget all, as another process says."""
        bulletin.see()
        self._kept.clear()
        self.size_bytes = 0
        self._renew_mark()

    def _renew_mark(self) -> None:
        self._forgotten += 1
        self._nothing = Looked(mark=(b"%d" % self._forgotten,))

    def _drop(self, digest: str) -> None:
        stored = self._kept.pop(digest, None)
        if stored is not None:
            self.size_bytes -= len(stored) + BESIDES_BYTES
