"""What `/v1/responses` does besides asking: it knows what was said before, and keeps what is said.

The history is written out before the call, so that any provider can go on from any other's words.
"""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

import msgspec

from api.in_time import in_time
from shared.clock import Clock
from shared.errors import (
    InvalidRequest,
    PreviousResponseNotFound,
    RequestTooLarge,
    StoreUnavailable,
    UnsupportedParameter,
)
from shared.gateway.parse import named
from shared.jobs.background import KEPT_FOR, Basis
from shared.jobs.response import is_open
from shared.providers.dialects.responses_history import (
    dereferenced,
    input_items,
    items_of,
    referred,
    written_out,
)
from shared.providers.request import InferenceRequest
from shared.store.engine import Store
from shared.store.responses import (
    StoredResponse,
    get_response,
    insert_response,
    keep_turns,
    turns_of,
)
from shared.telemetry.log import get_logger

log = get_logger("api")

MOST_REFERRED = 100
"""Responses whose items one request may refer to; of more the rest stay references."""

DIALECT = "openai_responses"
ENDINGS = (b"event: response.completed\n", b"event: response.incomplete\n")

_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class _Asked(msgspec.Struct, frozen=True):
    input: msgspec.Raw
    store: bool | None = None
    background: bool | None = None
    previous_response_id: str | None = None
    conversation: msgspec.Raw = msgspec.Raw()


class _Known(msgspec.Struct, frozen=True):
    id: str
    store: bool | None = None
    previous_response_id: str | None = None


_decode_asked = msgspec.json.Decoder(_Asked).decode
_decode_known = msgspec.json.Decoder(_Known).decode


class Responses:
    """Finds and keeps the responses of one process's callers."""

    def __init__(self, store: Store, clock: Clock, *, most_bytes: int) -> None:
        self._store = store
        self._clock = clock
        self._most_bytes = most_bytes

    async def begin(
        self, tenant_id: str, request: InferenceRequest
    ) -> "tuple[InferenceRequest, Keeping]":
        """Return the request with its history written out, and what is to be done at its end.

        Raises:
            PreviousResponseNotFound: the tenant has no response of that id.
            RequestTooLarge: what it goes on from is larger than a request may be.
            StoreUnavailable: the database cannot be asked for what it goes on from.
        """
        request, asked, turns = await self._prepared(tenant_id, request)
        keeping = Keeping(
            self._store,
            self._clock,
            tenant_id=tenant_id,
            asked=bytes(asked.input),
            turns=turns,
            store_it=asked.store is not False,
        )
        return request, keeping

    async def in_background(
        self, tenant_id: str, request: InferenceRequest
    ) -> tuple[InferenceRequest, Basis]:
        """Return a request as a job runs it whose response is kept, and what it goes on from.

        Raises:
            InvalidRequest: it says that nothing of it is to be stored.
            GatewayError: as `begin` does.
        """
        request, asked, turns = await self._prepared(tenant_id, request)
        if asked.store is False:
            raise InvalidRequest("`background` needs `store`: true.", param="store")
        fields = _decode_fields(request.raw)
        fields.pop("background")
        basis = Basis(
            input=bytes(asked.input),
            turns=tuple(turn.id for turn in turns),
            context_bytes=turns[-1].context_bytes if turns else 0,
        )
        return msgspec.structs.replace(request, raw=msgspec.json.encode(fields)), basis

    async def for_later(self, tenant_id: str, request: InferenceRequest) -> InferenceRequest:
        """Return a request as a job runs it: it needs nothing more, and nothing of it is kept.

        Raises:
            UnsupportedParameter: it is to run in the background.
            GatewayError: as `begin` does.
        """
        if runs_in_background(request):
            raise UnsupportedParameter(
                "`background` makes a response, this makes a job; ask for one of them.",
                param="background",
            )
        request, _ = await self.begin(tenant_id, request)
        fields = _decode_fields(request.raw)
        fields.pop("previous_response_id", None)
        fields["store"] = msgspec.Raw(b"false")
        return msgspec.structs.replace(request, raw=msgspec.json.encode(fields), expanded=False)

    async def _prepared(
        self, tenant_id: str, request: InferenceRequest
    ) -> "tuple[InferenceRequest, _Asked, list[StoredResponse]]":
        """Return the request written out, what it says of itself, and the turns before it."""
        asked = _read(request.raw)
        if names := referred(request.raw):
            raw = dereferenced(request.raw, await self._answers(tenant_id, names))
            request = msgspec.structs.replace(request, raw=raw)
            asked = _read(raw)
        turns: list[StoredResponse] = []
        if asked.previous_response_id is not None:
            turns = await self._turns(tenant_id, asked.previous_response_id)
            raw = written_out(request.raw, _items(turns))
            request = msgspec.structs.replace(request, raw=raw, expanded=True)
        return request, asked, turns

    async def items(self, tenant_id: str, response_id: str) -> "list[dict[str, object]] | None":
        """Return all that led to a response, oldest first; None where there is none."""
        async with in_time(self._clock), self._store.read() as tx:
            if await get_response(tx, tenant_id, response_id) is None:
                return None
            *before, last = await turns_of(tx, tenant_id, response_id)
        return [*_items(before), *items_of([(last.input, b"{}")])]

    async def _answers(self, tenant_id: str, names: Sequence[str]) -> dict[str, bytes]:
        """Return the bodies of these responses, as far as the tenant has them."""
        answers: dict[str, bytes] = {}
        left_bytes = self._most_bytes
        async with in_time(self._clock), self._store.read() as tx:
            for name in names[:MOST_REFERRED]:
                found = await get_response(tx, tenant_id, name)
                if found is not None and len(found.body) <= left_bytes:
                    left_bytes -= len(found.body)
                    answers[name] = found.body
        return answers

    async def _turns(self, tenant_id: str, response_id: str) -> list[StoredResponse]:
        async with in_time(self._clock), self._store.read() as tx:
            last = await get_response(tx, tenant_id, response_id)
            if last is None:
                raise PreviousResponseNotFound(
                    f"Previous response with id '{response_id}' not found.",
                    param="previous_response_id",
                )
            if is_open(last.body):
                raise InvalidRequest(
                    f"The response '{response_id}' is still being made.",
                    param="previous_response_id",
                )
            if last.context_bytes > self._most_bytes:
                raise RequestTooLarge(
                    f"The conversation up to '{response_id}' is larger than server.max_body_mb."
                )
            return await turns_of(tx, tenant_id, response_id)


class Keeping:
    """What one call keeps of its answer. `events` counts those that have gone out."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        tenant_id: str,
        asked: bytes,
        turns: list[StoredResponse],
        store_it: bool,
    ) -> None:
        self._store = store
        self._clock = clock
        self._tenant_id = tenant_id
        self._asked = asked
        self._turns = turns
        self._store_it = store_it
        self.events = 0

    async def whole(self, body: bytes) -> bytes:
        """Keep a whole response, if that is wanted; return it with what became of that.

        With the database away the caller still gets the answer it has paid for, unkept.
        """
        previous_id = self._turns[-1].id if self._turns else None
        body = _told(body, stored=self._store_it, previous_id=previous_id)
        if self._store_it and not await self._kept(body, previous_id):
            body = _told(body, stored=False, previous_id=previous_id)
        return body

    async def pieces(self, stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Yield a stream as it comes; the response is kept before its last event goes out."""
        async for piece in stream:
            self.events += piece.count(b"\ndata: ")
            if any(ending in piece for ending in ENDINGS):
                yield await self._ended(piece)
            else:
                yield piece

    async def _ended(self, piece: bytes) -> bytes:
        events = piece.split(b"\n\n")
        for number, event in enumerate(events):
            if event.startswith(ENDINGS):
                name, data = event.split(b"\ndata: ", 1)
                fields = _decode_fields(data)
                fields["response"] = msgspec.Raw(await self.whole(bytes(fields["response"])))
                events[number] = name + b"\ndata: " + msgspec.json.encode(fields)
        return b"\n\n".join(events)

    async def _kept(self, body: bytes, previous_id: str | None) -> bool:
        response_id = _decode_known(body).id
        asked = msgspec.json.encode(input_items(self._asked, response_id))
        before = self._turns[-1].context_bytes if self._turns else 0
        new = StoredResponse(
            id=response_id,
            previous_id=previous_id,
            context_bytes=before + len(asked) + len(body),
            input=asked,
            body=body,
        )
        ids = [turn.id for turn in self._turns]
        try:
            async with in_time(self._clock), self._store.write() as tx:
                at = await tx.now()
                until = at + KEPT_FOR
                if not await insert_response(tx, self._tenant_id, new, at=at, expires_at=until):
                    log.warning("response.repeated", response_id=response_id)
                    return False
                if ids:
                    await keep_turns(tx, self._tenant_id, ids, until=until)
        except StoreUnavailable as error:
            log.warning("response.unkept", response_id=response_id, reason=error.message)
            return False
        return True


def runs_in_background(request: InferenceRequest) -> bool:
    """Return whether a response is to be made in the background.

    Raises:
        InvalidRequest: what says so is of the wrong type.
    """
    return b'"background"' in request.raw and bool(_read(request.raw).background)


def broken(failure: Mapping[str, object], number: int) -> bytes:
    """Return the event that ends a broken stream, the `number`th of it.

    What the types want stands flat in it; the SDK raises what stands in `error`.
    """
    failure = {name: told for name, told in failure.items() if name != "upstream_status"}
    flat = {name: failure.get(name) for name in ("code", "message", "param")}
    body = {"type": "error", **flat, "sequence_number": number, "error": failure}
    return b"event: error\ndata: %b\n\n" % msgspec.json.encode(body)


def _told(body: bytes, *, stored: bool, previous_id: str | None) -> bytes:
    """Return the response with those two facts as they are here, whatever its provider says."""
    known = _decode_known(body)
    if (known.store, known.previous_response_id) == (stored, previous_id):
        return body
    fields = _decode_fields(body)
    fields["store"] = msgspec.Raw(msgspec.json.encode(stored))
    fields["previous_response_id"] = msgspec.Raw(msgspec.json.encode(previous_id))
    return msgspec.json.encode(fields)


def _items(turns: Iterable[StoredResponse]) -> list[dict[str, object]]:
    return items_of((turn.input, turn.body) for turn in turns)


def _read(raw: bytes) -> _Asked:
    try:
        asked = _decode_asked(raw)
    except msgspec.ValidationError as error:
        raise named(error) from error
    if asked.previous_response_id is not None and bytes(asked.conversation) not in {b"", b"null"}:
        raise InvalidRequest(
            "`previous_response_id` and `conversation` exclude each other.",
            param="previous_response_id",
        )
    return asked
