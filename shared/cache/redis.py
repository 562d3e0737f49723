"""Answers in a Redis that all processes share. Whenever it is away, nothing is looked up."""

import asyncio
from functools import lru_cache
from hashlib import blake2b

import msgspec

from shared.cache.entry import ENTRY_BESIDES_BYTES, Address, CacheAway, Entry, Looked, Mark
from shared.cache.wire import Answer, Dialler, Wire, packed
from shared.clock import Clock
from shared.telemetry.log import get_logger
from shared.telemetry.metrics import CACHE_AWAY, REDIS_FAILURES

log = get_logger("cache")

PREFIX = "sluiceway:cache:2"
MARKS = f"{PREFIX}:marks"
"""A hash: how often answers were forgotten, of all, of a tenant, of a model, of both."""

REPLY_S = 0.1
CONNECT_S = 0.5
PROBE_S = 0.5
FORGET_S = 30.0
SCAN_COUNT = 1_000

MOST_NAMES = 10_000
"""Tenants with their models whose part of a name is looked up instead of hashed again."""


class _Stored(msgspec.Struct, frozen=True, array_like=True, gc=False):
    mark: Mark
    at_s: float
    entry: Entry


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Stored).decode


class RedisCache:
    """One connection for all calls. A task of its own makes it, and again after every failure."""

    def __init__(self, url: str, *, ttl_s: float, most_entry_bytes: int, clock: Clock) -> None:
        self._dialler = Dialler(url, REDIS_FAILURES.inc)  # it is full, or takes no writes
        self._ttl_ms = max(1, round(ttl_s * 1000))
        self._most_body_bytes = most_entry_bytes - ENTRY_BESIDES_BYTES
        self._clock = clock
        self._wire: Wire | None = None
        self._first = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to look for Redis; return when it was found or was not."""
        self._task = asyncio.create_task(self._work())
        await self._first.wait()

    async def aclose(self) -> None:
        """Drop the connection; what is still to be kept is lost."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def at_hand(self, _address: Address) -> Looked | None:
        return None

    async def look(self, address: Address) -> Looked | None:
        wire = self._wire
        if wire is None:
            return None
        try:
            stored, marks = await self._answers(wire, _look_up(address), 2)
        except CacheAway as error:
            REDIS_FAILURES.inc()
            wire.drop(str(error))
            return None
        mark = _mark(marks)
        found = _read(stored)
        if found is None or found.mark != mark:
            return Looked(mark=mark)
        age_s = max(0.0, self._clock.wall_s() - found.at_s)
        return Looked(mark=mark, entry=found.entry, age_s=age_s)

    def keep(self, address: Address, entry: Entry, mark: Mark) -> None:
        wire = self._wire
        if wire is None or wire.is_full or len(entry.body) > self._most_body_bytes:
            return
        # As a _Stored, which need not be made for it.
        stored = _encode((mark, self._clock.wall_s(), entry))
        wire.tell(packed("SET", _key(address), stored, "PX", self._ttl_ms))

    async def forget(self, *, tenant: str | None, model: str | None) -> int:
        wire = self._wire
        if wire is None:
            raise CacheAway("not connected")
        scope, pattern = _scope(tenant, model), _pattern(tenant, model)
        cursor, forgotten = b"0", 0
        try:
            async with self._clock.timeout(FORGET_S):
                # First of all, so that what is being asked now is not kept.
                await _one(wire, "HINCRBY", MARKS, scope, 1)
                while True:
                    page = await _one(wire, "SCAN", cursor, "MATCH", pattern, "COUNT", SCAN_COUNT)
                    match page:
                        case [bytes(following), list(keys)]:
                            cursor = following
                        case _:
                            raise CacheAway(f"SCAN answers {type(page).__name__}")
                    if keys:
                        removed = await _one(wire, "UNLINK", *keys)
                        forgotten += removed if isinstance(removed, int) else 0
                    if cursor == b"0":
                        return forgotten
        except TimeoutError as error:
            raise CacheAway(f"Redis took more than {FORGET_S:g} s") from error

    async def _answers(self, wire: Wire, commands: bytes, number: int) -> list[Answer]:
        """Return the answers to commands that are all quick.

        Raises:
            CacheAway: one of them is an error, or they did not come in time.
        """
        found = await wire.ask(commands, number, patience_s=REPLY_S)
        for answered in found:
            if isinstance(answered, Exception):
                raise CacheAway(str(answered)) from answered
        return found

    # The task that keeps the connection

    async def _work(self) -> None:
        away = False
        while True:
            try:
                wire = await self._connected()
            except CacheAway as error:
                why = str(error)
            else:
                if away:
                    log.info("cache.back")
                away = False
                why = await self._serve(wire)
            if not away:
                log.warning("cache.away", why=why)
            away = True
            CACHE_AWAY.set(1)
            self._first.set()
            await self._clock.sleep(PROBE_S)

    async def _serve(self, wire: Wire) -> str:
        """Use a connection until it is lost; return why it was."""
        CACHE_AWAY.set(0)
        self._wire = wire
        self._first.set()
        try:
            return str(await asyncio.shield(wire.lost))
        finally:
            self._wire = None
            await wire.aclose()

    async def _connected(self) -> Wire:
        """Return a connection over which Redis has answered what it will be asked.

        Raises:
            CacheAway: it has not.
        """
        try:
            async with self._clock.timeout(CONNECT_S):
                wire = await self._dialler.dial()
        except TimeoutError as error:
            raise CacheAway(f"no connection within {CONNECT_S:g} s") from error
        try:
            await self._answers(wire, _look_up(Address(tenant="", model="", digest="probe")), 2)
        except BaseException:
            await wire.aclose()
            raise
        return wire


async def _one(wire: Wire, *command: str | bytes | int) -> Answer:
    (answer,) = await wire.ask(packed(*command))
    if isinstance(answer, Exception):
        raise CacheAway(str(answer)) from answer
    return answer


def _look_up(address: Address) -> bytes:
    """Return two commands: for what is kept, and for how often its kinds have been forgotten."""
    return packed("GET", _key(address)) + _marks(address.tenant, address.model)


@lru_cache(MOST_NAMES)
def _marks(tenant: str, model: str) -> bytes:
    scopes = (_scope(None, None), _scope(tenant, None), _scope(None, model), _scope(tenant, model))
    return packed("HMGET", MARKS, *scopes)


_NEVER_FORGOTTEN = [None] * 4
_UNMARKED = (b"",) * 4


def _mark(answer: Answer) -> Mark:
    if answer == _NEVER_FORGOTTEN:
        return _UNMARKED
    values = answer if isinstance(answer, list) else []
    return tuple(value if isinstance(value, bytes) else b"" for value in values)


def _read(stored: Answer) -> _Stored | None:
    if not isinstance(stored, bytes):
        return None
    try:
        return _decode(stored)
    except (msgspec.DecodeError, UnicodeDecodeError):  # of another version
        return None


def _key(address: Address) -> str:
    return f"{PREFIX}:{_scope(address.tenant, address.model)}:{address.digest}"


def _pattern(tenant: str | None, model: str | None) -> str:
    return f"{PREFIX}:{_scope(tenant, model)}:*"


@lru_cache(MOST_NAMES)
def _scope(tenant: str | None, model: str | None) -> str:
    return f"{_short(tenant)}:{_short(model)}"


def _short(name: str | None) -> str:
    """Return hex digits for a name, which may hold anything; `*` for all."""
    return "*" if name is None else blake2b(name.encode(), digest_size=6).hexdigest()
