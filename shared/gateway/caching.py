"""A gateway that gives answers again which it has given before."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Generic, TypeVar

import msgspec
from typing_extensions import override

from shared.cache.control import CacheControl
from shared.cache.entry import Address, Entry
from shared.cache.flights import Landed, Lead
from shared.cache.wiring import Shelf
from shared.clock import Deadline
from shared.errors import ChainFailed, DeadlineExceeded
from shared.gateway.answer import BYPASS, MISS, Answer, CacheTold, CallContext, ServedStream, hit
from shared.gateway.cacheable import Names
from shared.gateway.kept_stream import RecordedStream, ReplayedStream
from shared.gateway.leading import Led, NotedBooks
from shared.gateway.replay import Recording, told_again
from shared.gateway.runner import Kit
from shared.gateway.service import Gateway
from shared.identity import Principal
from shared.ledger.books import Books
from shared.ledger.holds import Holds
from shared.providers.request import InferenceRequest
from shared.routing.order import Draw
from shared.routing.route import Route
from shared.telemetry.tally import observe_cache

OK = 200
STREAM_RATIO = 64
"""A stream takes some fifty times the bytes of its whole answer: of one that takes more than this
times what may be kept, the rest is not even read."""

ALONE = nullcontext()
"""Nobody waits for such a call."""

Given = TypeVar("Given")


class Turn(msgspec.Struct, Generic[Given], frozen=True, kw_only=True, gc=False):
    """What is to be done with a call: it has been `given` its answer, it is `led`, or neither.

    `until` is when all must have ended, where it had to wait for another first.
    """

    given: Given | None = None
    led: Led | None = None
    until: Deadline | None = None


class _Call(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What of a call the cache has to know; no `address`: it is none of its business."""

    tenant_id: str
    route: Route
    control: CacheControl
    address: Address | None
    own_deadline: bool


class CachingGateway(Gateway):
    """Looks before it asks, and asks once for all that ask the same at the same time.

    A call that is answered from the cache takes nothing from limits and budgets, and nothing is
    written in its books.
    """

    def __init__(self, kit: Kit, draw: Draw, shelf: Shelf) -> None:
        super().__init__(kit, draw)
        self.shelf = shelf
        self._names = Names(shelf.rules, kit.catalog)

    @override
    async def complete(
        self,
        principal: Principal,
        request: InferenceRequest,
        *,
        deadline: Deadline,
        books: Books,
        holds: Holds,
        context: CallContext,
        route: Route | None = None,
    ) -> Answer:
        call = self._call(principal, request, context, route)
        turn = await self._turn(call, deadline, _answer_of)
        if turn.given is not None:
            return turn.given
        if call is not None and turn.led is None:
            observe_cache(BYPASS.result)
        with turn.led or ALONE:
            answer = await super().complete(
                principal,
                request,
                deadline=turn.until or deadline,
                books=books,
                holds=holds,
                context=context,
                route=call.route if call else route,
            )
        if call is None:
            return answer
        if turn.led is None:
            return _telling(answer, BYPASS)
        turn.led.answered(_entry_of(answer), answer.given_by)
        return _telling(answer, _missed(call.control))

    @override
    async def stream(
        self,
        principal: Principal,
        request: InferenceRequest,
        *,
        deadline: Deadline,
        books: Books,
        holds: Holds,
        context: CallContext,
        route: Route | None = None,
    ) -> ServedStream:
        call = self._call(principal, request, context, route)
        turn = await self._turn(call, deadline, partial(_stream_of, request))
        if turn.given is not None:
            return turn.given
        if call is not None and turn.led is None:
            observe_cache(BYPASS.result)
        noted = NotedBooks(books)
        with turn.led or ALONE:
            stream = await super().stream(
                principal,
                request,
                deadline=turn.until or deadline,
                books=books if turn.led is None else noted,
                holds=holds,
                context=context,
                route=call.route if call else route,
            )
        if call is None:
            return stream
        if turn.led is None:
            stream.cache = BYPASS
            return stream
        most_bytes = self.shelf.rules.max_entry_kb * 1024 * STREAM_RATIO
        recording = Recording(request, most_bytes=most_bytes)
        return RecordedStream(stream, _missed(call.control), turn.led, recording, noted)

    async def forget(self, *, tenant: str | None, model: str | None) -> int:
        """Forget the answers of a tenant, of a model, of both, or all; return how many were found.

        Where tenants share their answers, those of one are those of all.

        Raises:
            CacheAway, OSError: it could not be done, or not everywhere.
        """
        route = None if model is None else self.kit.catalog.routes.find(model)
        return await self.shelf.cache.forget(
            tenant=None if self.shelf.rules.across_tenants else tenant,
            model=model if route is None else route.model,
        )

    async def _turn(
        self,
        call: "_Call | None",
        deadline: Deadline,
        give: Callable[[Entry, CacheTold], Given | None],
    ) -> Turn[Given]:
        """Return the answer if there is one to give, else who asks for it.

        `give` makes the answer of an entry, None where it cannot.

        Raises:
            ChainFailed: what the same question, asked at the same time, has come to.
            DeadlineExceeded: the caller's own time ran out while another was asking.
        """
        if call is None or call.address is None:
            return Turn()
        until = None
        flights = self.shelf.flights
        lead: Lead | Landed | None
        lead = flights.apart() if call.control.no_cache else flights.lead(call.address.digest)
        if lead is None:
            until = self._until(call, deadline)
            began_s = self.kit.clock.monotonic()
            lead = await self._joined(call, call.address, until)
            if isinstance(lead, Landed):
                waited_s = self.kit.clock.monotonic() - began_s
                return self._shared(call, lead, waited_s, until, give)
        led = Led(self.shelf, call.route, call.address, lead)
        with led:
            looked = await self.shelf.cache.look(call.address)
        if looked is None:  # it is away
            led.found(None)
            return Turn(until=until)
        led.mark = looked.mark
        if looked.entry is None or not _is_wanted(call.control, looked.age_s):
            return Turn(led=led, until=until)
        led.found(looked.entry)
        told = hit(looked.entry, age_s=looked.age_s)
        return Turn(given=self._given(call, looked.entry, told, give), until=until)

    def _shared(
        self,
        call: "_Call",
        landed: Landed,
        waited_s: float,
        until: Deadline,
        give: Callable[[Entry, CacheTold], Given | None],
    ) -> Turn[Given]:
        """Return what a call gets of what another one has come to.

        Raises:
            ChainFailed: that.
        """
        if landed.error is not None:
            raise _another(landed.error)
        if landed.entry is None:
            return Turn(until=until)
        told = hit(landed.entry, waited_s=waited_s)
        return Turn(given=self._given(call, landed.entry, told, give), until=until)

    def _given(
        self,
        call: "_Call",
        entry: Entry,
        told: CacheTold,
        give: Callable[[Entry, CacheTold], Given | None],
    ) -> Given | None:
        """Return the answer made of an entry, counted as a hit; None where it cannot be made."""
        given = give(entry, told)
        if given is not None:
            observe_cache("hit", entry.provider, entry.cost_nanousd)
            self.shelf.hits.add(call.tenant_id, entry)
        return given

    async def _joined(self, call: "_Call", address: Address, deadline: Deadline) -> Lead | Landed:
        """Return what a question comes to that another asks, or the lead that it has given up."""
        try:
            async with self.kit.clock.timeout(deadline.left_s(self.kit.clock)):
                return await self.shelf.flights.join(address.digest)
        except TimeoutError as error:
            if call.own_deadline:
                raise DeadlineExceeded(
                    "The time given by X-Sluiceway-Timeout was over before any target answered."
                ) from error
            raise ChainFailed(
                "upstream_timeout",
                "The same question, asked before, has no answer yet.",
                attempts=(),
            ) from error

    def _call(
        self,
        principal: Principal,
        request: InferenceRequest,
        context: CallContext,
        route: Route | None,
    ) -> "_Call | None":
        """Return what the cache has to know, None for a call that has none."""
        control = context.cache
        if control is None:
            return None
        route = route or self._route(principal, request.head.model)
        return _Call(
            tenant_id=principal.tenant_id,
            route=route,
            control=control,
            address=self._names.address_of(principal, route, request, control),
            own_deadline=context.own_deadline,
        )

    def _until(self, call: "_Call", deadline: Deadline) -> Deadline:
        """Return when all must have ended: waiting for another is a part of the route's time."""
        total = Deadline.after(call.route.timeouts.total_s, self.kit.clock)
        return total if total.at_s < deadline.at_s else deadline


def _is_wanted(control: CacheControl, age_s: float) -> bool:
    """Return whether the caller takes an answer of that age."""
    return not control.no_cache and (control.max_age_s is None or age_s <= control.max_age_s)


def _missed(control: CacheControl) -> CacheTold:
    """Return what is told of an answer that was asked for, counted."""
    told = BYPASS if control.no_cache else MISS
    observe_cache(told.result)
    return told


def _telling(answer: Answer, told: CacheTold) -> Answer:
    """Return the answer with that in it. Nobody else has seen it yet, and a copy costs 1 µs."""
    msgspec.structs.force_setattr(answer, "cache", told)
    return answer


def _answer_of(entry: Entry, told: CacheTold) -> Answer:
    return Answer(
        body=entry.body,
        route=entry.route,
        provider=entry.provider,
        model=entry.model,
        reported_model=entry.reported_model,
        attempts=(),
        usage=entry.usage,
        cost_nanousd=0,
        dropped=entry.dropped,
        cache=told,
    )


def _stream_of(request: InferenceRequest, entry: Entry, told: CacheTold) -> ReplayedStream | None:
    pieces = told_again(request, entry.body)
    return None if pieces is None else ReplayedStream(entry, told, pieces)


def _entry_of(answer: Answer) -> Entry | None:
    if answer.media_type is not None or answer.status != OK:
        return None
    return Entry(
        body=answer.body,
        route=answer.route,
        provider=answer.provider,
        model=answer.model,
        reported_model=answer.reported_model,
        usage=answer.usage,
        cost_nanousd=answer.given_nanousd,
        dropped=answer.dropped,
    )


def _another(failure: ChainFailed) -> ChainFailed:
    """Return the failure anew: an exception is raised once, with a trace of its own."""
    return ChainFailed(
        failure.code,
        failure.message,
        attempts=failure.attempts,
        error=failure.error,
        retry_after_s=failure.retry_after_s,
    )
