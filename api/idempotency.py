"""`Idempotency-Key`: a POST that its caller names is done once, and answered alike from then on.

While it is being answered its name is locked, and the lock prolonged; what is sent is kept as it
passes. A process that dies leaves a lock that runs out. Without the header nothing here runs.
"""

import asyncio
import hashlib
from collections.abc import Mapping
from contextlib import suppress
from contextvars import ContextVar
from types import TracebackType

import msgspec
from litestar.types import Message, Send

from api.in_time import in_time
from shared.clock import Clock
from shared.errors import (
    Conflict,
    IdempotencyInProgress,
    IdempotencyMismatch,
    InvalidRequest,
    StoreUnavailable,
)
from shared.ids import IdMaker
from shared.providers.dialects.passed import FORM
from shared.sealing import Sealer
from shared.store.engine import Store, Tx
from shared.store.idempotency import (
    Earlier,
    Named,
    bind_job,
    keep_answer,
    let_go,
    prolong_name,
    take_name,
)
from shared.store.records import NewJob
from shared.telemetry.log import get_logger
from shared.telemetry.metrics import IDEMPOTENT_REQUESTS

HEADER = b"idempotency-key"
REPLAYED = (b"idempotent-replayed", b"true")
PARAM = "Idempotency-Key"

MOST_KEY = 255
LOCK_S = 10.0
"""For so long a name stays taken when the process that answers has died."""
PROLONG_S = 3.0
MOST_KEPT_BYTES = 8 * 1024 * 1024
"""A larger answer is not kept: whoever asks for it again is told so."""

SEALED_ROUTES = "POST /v1/webhook_endpoints"
"""Begins the routes whose answers hold a secret, which never lies in the database in the clear."""

_OF_ONE_CALL = (
    "content-length", "x-content-type-options", "x-request-id", "request-id", "date",
    "retry-after", "x-ratelimit-", "anthropic-ratelimit-", "x-sluiceway-limits",
    "x-sluiceway-overhead-ms", "x-sluiceway-cost",
)  # fmt: skip
"""Beginnings of the headers that are not given again: a second answer takes and costs nothing."""

log = get_logger("api")


class Idempotency:
    """Hands out the names of one process's calls."""

    def __init__(self, store: Store, clock: Clock, ids: IdMaker, sealer: Sealer) -> None:
        self._store = store
        self._clock = clock
        self._ids = ids
        self._sealer = sealer

    async def begin(
        self, tenant_id: str, route: str, key: bytes, fingerprint: str, send: Send
    ) -> "Once | Earlier":
        """Return what is to answer the call, or what has answered it before.

        `send` is where the answer goes.

        Raises:
            InvalidRequest: the key is empty or longer than 255 characters.
            IdempotencyMismatch: it names a call with another body.
            IdempotencyInProgress: the call it names is being answered.
            Conflict: it was answered, but the answer was too large to be kept.
            StoreUnavailable: nobody can tell.
        """
        named = Named(tenant_id=tenant_id, route=route, key=_checked(key))
        sealer = self._sealer if route.startswith(SEALED_ROUTES) else None
        once = Once(
            self._store, self._clock, named, owner=self._ids("own"), send=send, sealer=sealer
        )
        earlier = await once.take(fingerprint)
        if earlier is None:
            return once
        _check(earlier, fingerprint)
        IDEMPOTENT_REQUESTS.labels("replayed").inc()
        if sealer is None or earlier.body is None:
            return earlier
        opened = sealer.open(earlier.body.decode()).encode()
        return msgspec.structs.replace(earlier, body=opened)


class Once:
    """A named call while it is being answered: a `send` that keeps what passes.

    An answer is kept before its last piece goes out, so whoever has all of it can ask again.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        named: Named,
        *,
        owner: str,
        send: Send,
        sealer: Sealer | None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._named = named
        self._owner = owner
        self._send = send
        self._sealer = sealer
        self._status = 0
        self._headers: dict[str, str] = {}
        self._pieces: list[bytes] | None = []
        self._bytes = 0
        self._keeps_refusal = False
        self._dropped = False
        self._prolonging: asyncio.Task[None] | None = None

    async def take(self, fingerprint: str) -> Earlier | None:
        """Take the name, or return what it stands for."""
        async with in_time(self._clock), self._store.write() as tx:
            return await take_name(
                tx, self._named, fingerprint=fingerprint, owner=self._owner, lock_s=LOCK_S
            )

    async def __aenter__(self) -> None:
        self._prolonging = asyncio.create_task(self._prolong())
        self._mark = _current.set(self)

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        _current.reset(self._mark)
        if self._prolonging is not None:
            self._prolonging.cancel()
        with suppress(StoreUnavailable):  # then the lock runs out
            async with in_time(self._clock), self._store.write() as tx:
                await let_go(tx, self._named, owner=self._owner)

    async def __call__(self, message: Message) -> None:
        """Send, keeping what is sent."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._headers = _lasting(message["headers"])
        elif message["type"] == "http.response.body":
            self._add(message["body"])
            if not message["more_body"] and self._wanted:
                await self._keep()
        await self._send(message)

    def keep_refusal(self) -> None:
        """Have a 4xx kept: it is the provider's last word about the call."""
        self._keeps_refusal = True

    def drop(self) -> None:
        """Have what is being sent not kept: it is not the whole answer."""
        self._dropped = True

    async def bind(self, tx: Tx, job: NewJob) -> None:
        """Let the name stand for a job, in the transaction that makes it.

        Raises:
            IdempotencyInProgress: the name was lost to another; the job must not be made.
        """
        ours = await bind_job(tx, self._named, owner=self._owner, job_id=job.id, until=job.deadline)
        if not ours:
            raise _in_progress()

    async def answer(self, tx: Tx, status: int, body: bytes) -> None:
        """Let the name stand for this answer, in the transaction that does what it tells of.

        Raises:
            IdempotencyInProgress: the name was lost to another; nothing must be done.
        """
        if not await self._kept(tx, status, _JSON, body):
            raise _in_progress()

    @property
    def _wanted(self) -> bool:
        return not self._dropped and (self._status < 300 or self._keeps_refusal)  # noqa: PLR2004

    def _add(self, piece: bytes) -> None:
        self._bytes += len(piece)
        if self._pieces is not None and piece:
            self._pieces.append(piece)
        if self._bytes > MOST_KEPT_BYTES:
            self._pieces = None

    async def _keep(self) -> None:
        body = None if self._pieces is None else b"".join(self._pieces)
        try:
            async with in_time(self._clock), self._store.write() as tx:
                kept = await self._kept(tx, self._status, self._headers, body)
        except StoreUnavailable as error:
            log.warning("idempotency.unkept", reason=error.message)
        else:
            IDEMPOTENT_REQUESTS.labels("kept" if kept else "lost").inc()

    async def _kept(
        self, tx: Tx, status: int, headers: Mapping[str, str], body: bytes | None
    ) -> bool:
        if self._sealer is not None and body is not None:
            body = self._sealer.seal(body.decode()).encode()
        return await keep_answer(
            tx, self._named, owner=self._owner, status=status, headers=headers, body=body
        )

    async def _prolong(self) -> None:
        while True:
            await self._clock.sleep(PROLONG_S)
            with suppress(StoreUnavailable):
                async with in_time(self._clock), self._store.write() as tx:
                    if not await prolong_name(tx, self._named, owner=self._owner, lock_s=LOCK_S):
                        return


_current: ContextVar[Once | None] = ContextVar("sluiceway_once", default=None)
_JSON = {"content-type": "application/json"}


def current() -> Once | None:
    """Return the named call that is being answered by the running code, None when it has no name.

    Whatever creates something asks, and has its transaction `bind` or `answer`.
    """
    return _current.get()


def fingerprint_of(raw: bytes, kind: bytes) -> str:
    """Return what two equal bodies of that content type have in common, as a hash.

    JSON is compared by its meaning; a form without its boundary, which is drawn for each sending.
    """
    if kind.lower().startswith(FORM.encode()):
        raw = raw.replace(_boundary(kind), b"")
    else:
        with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError):
            raw = msgspec.json.encode(msgspec.json.decode(raw), order="sorted")
    return hashlib.sha256(raw).hexdigest()


def _boundary(kind: bytes) -> bytes:
    _, found, rest = kind.partition(b"boundary=")
    return rest.partition(b";")[0].strip().strip(b'"') if found else b"\x00"


def _lasting(headers: object) -> dict[str, str]:
    pairs: list[tuple[bytes, bytes]] = list(headers)  # type: ignore[call-overload]
    named = ((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in pairs)
    return {name: value for name, value in named if not name.startswith(_OF_ONE_CALL)}


def headers_again(earlier: Mapping[str, str]) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """Return the content type of an answer that is given again, and its other headers."""
    pairs = [
        (name.encode("latin-1"), value.encode("latin-1"))
        for name, value in earlier.items()
        if name != "content-type"
    ]
    return earlier.get("content-type", "application/json").encode("latin-1"), [*pairs, REPLAYED]


def _checked(key: bytes) -> str:
    text = key.strip().decode("latin-1")
    if not 0 < len(text) <= MOST_KEY:
        raise InvalidRequest(f"{PARAM} has 1 to {MOST_KEY} characters.", param=PARAM)
    return text


def _check(earlier: Earlier, fingerprint: str) -> None:
    """Return if the earlier answer can be given again.

    Raises:
        IdempotencyMismatch, IdempotencyInProgress, Conflict: it cannot.
    """
    if earlier.fingerprint != fingerprint:
        IDEMPOTENT_REQUESTS.labels("mismatch").inc()
        raise IdempotencyMismatch(
            f"This {PARAM} was used with another body; take a new one for a new request.",
            param=PARAM,
        )
    if earlier.status is None and earlier.job_id is None and earlier.locked:
        IDEMPOTENT_REQUESTS.labels("in_progress").inc()
        raise _in_progress()
    if earlier.body is None and earlier.job_id is None:
        IDEMPOTENT_REQUESTS.labels("too_large").inc()
        raise Conflict(
            "This request was answered, but the answer was too large to be kept for a second time.",
            param=PARAM,
        )


def _in_progress() -> IdempotencyInProgress:
    return IdempotencyInProgress(
        f"The first request with this {PARAM} has not ended yet.", param=PARAM
    )
