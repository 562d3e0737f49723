"""A gateway that gives answers again which it has given before."""

from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

import msgspec
from msgspec.structs import force_setattr
from typing_extensions import override

from shared.cache.control import PLAIN, CacheControl
from shared.cache.entry import Address, Entry
from shared.cache.flights import Landed, Lead
from shared.cache.wiring import Shelf
from shared.clock import Deadline
from shared.errors import ChainFailed, DeadlineExceeded
from shared.gateway.answer import BYPASS, MISS, Answer, CacheTold, CallContext, ServedStream, hit
from shared.gateway.cacheable import Names
from shared.gateway.kept_stream import RecordedStream, replayed
from shared.gateway.leading import Led, NotedBooks
from shared.gateway.replay import Recording
from shared.gateway.runner import Kit
from shared.gateway.service import Gateway
from shared.identity import Principal
from shared.ledger.books import Books
from shared.ledger.holds import Holds
from shared.providers.request import InferenceRequest
from shared.routing.order import Draw
from shared.routing.route import Route
from shared.telemetry.tally import CACHE_LOOKS, observe_hit

_bypassed = CACHE_LOOKS["bypass"].note

STREAM_RATIO = 64
"""A stream takes some fifty times the bytes of its whole answer: of one that takes more than this
times what may be kept, the rest is not even read."""

Given = TypeVar("Given")


class Turn(msgspec.Struct, Generic[Given], frozen=True, kw_only=True, gc=False):
    """What is to be done with a call: it has been `given` its answer, it is `led`, or neither.

    `until` is when all must have ended, where it had to wait for another first.
    """

    given: Given | None = None
    led: Led | None = None
    until: Deadline | None = None


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
        control = context.cache
        route, led = self._led(principal, request, context, route)
        if led is not None and not led.has_missed:
            turn = await self._turn(led, principal, context, deadline, _answer_of)
            if turn.given is not None:
                return turn.given
            led, deadline = turn.led, turn.until or deadline
        if control is not None and led is None:
            _bypassed()
        try:
            answer = await super().complete(
                principal,
                request,
                deadline=deadline,
                books=books,
                holds=holds,
                context=context,
                route=route,
            )
        except BaseException as failure:
            if led is not None:
                led.fail(failure)
            raise
        if control is not None:
            told = BYPASS
            if led is not None:
                led.answered(answer)
                told = _told(control)
            # Nobody else has seen it yet, and a copy costs 1 µs.
            force_setattr(answer, "cache", told)
        return answer

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
        control = context.cache
        route, led = self._led(principal, request, context, route)
        if led is not None and not led.has_missed:
            give = partial(replayed, request)
            turn = await self._turn(led, principal, context, deadline, give)
            if turn.given is not None:
                return turn.given
            led, deadline = turn.led, turn.until or deadline
        if control is not None and led is None:
            _bypassed()
        noted = NotedBooks(books)
        try:
            stream = await super().stream(
                principal,
                request,
                deadline=deadline,
                books=books if led is None else noted,
                holds=holds,
                context=context,
                route=route,
            )
        except BaseException as failure:
            if led is not None:
                led.fail(failure)
            raise
        if control is None:
            return stream
        if led is None:
            stream.cache = BYPASS
            return stream
        most_bytes = self.shelf.rules.max_entry_kb * 1024 * STREAM_RATIO
        recording = Recording(request, most_bytes=most_bytes)
        return RecordedStream(stream, _told(control), led, recording, noted)

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

    def _led(
        self,
        principal: Principal,
        request: InferenceRequest,
        context: CallContext,
        route: Route | None,
    ) -> tuple[Route | None, Led | None]:
        """Return the call as one for the cache, None for one that is none of its business.

        It has the lead unless another asks the same, and what the cache has where that is at hand.
        Its route comes with it where that was looked up.
        """
        control = context.cache
        if control is None:
            return route, None
        route = route or self._route(principal, request.head.model)
        address = self._names.address_of(principal, route, request, control)
        if address is None:
            return route, None
        shelf = self.shelf
        flights = shelf.flights
        lead = flights.apart() if control.no_cache else flights.lead(address.digest)
        led = Led(shelf, route, address, lead)
        if lead is not None:
            try:
                looked = led.looked = shelf.cache.at_hand(address)
                led.has_missed = looked is not None and looked.entry is None
            except BaseException as failure:
                lead.fail(failure)
                raise
        return route, led

    async def _turn(
        self,
        led: Led,
        principal: Principal,
        context: CallContext,
        deadline: Deadline,
        give: Callable[[Entry, CacheTold], Given | None],
    ) -> Turn[Given]:
        """Return the answer if there is one to give, else who asks for it.

        `give` makes the answer of an entry, None where it cannot.

        Raises:
            ChainFailed: what the same question, asked at the same time, has come to.
            DeadlineExceeded: the caller's own time ran out while another was asking.
        """
        until = None
        if led.lead is None:
            # Waiting for another is a part of the route's time.
            total = Deadline.after(led.route.timeouts.total_s, self.kit.clock)
            until = total if total.at_s < deadline.at_s else deadline
            began_s = self.kit.clock.monotonic()
            lead = await self._joined(led.address, until, context)
            if isinstance(lead, Landed):
                waited_s = self.kit.clock.monotonic() - began_s
                return self._shared(principal, lead, waited_s, until, give)
            led.lead = lead
        looked = led.looked
        if looked is None:
            try:
                looked = led.looked = await self.shelf.cache.look(led.address)
            except BaseException as failure:
                led.fail(failure)
                raise
        if looked is None:  # it is away
            led.found(None)
            return Turn(until=until)
        if looked.entry is None or not _is_wanted(context.cache or PLAIN, looked.age_s):
            return Turn(led=led, until=until)
        led.found(looked.entry)
        told = hit(looked.entry, age_s=looked.age_s)
        return Turn(given=self._given(principal, looked.entry, told, give), until=until)

    def _shared(
        self,
        principal: Principal,
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
        return Turn(given=self._given(principal, landed.entry, told, give), until=until)

    def _given(
        self,
        principal: Principal,
        entry: Entry,
        told: CacheTold,
        give: Callable[[Entry, CacheTold], Given | None],
    ) -> Given | None:
        """Return the answer made of an entry, counted as a hit; None where it cannot be made."""
        given = give(entry, told)
        if given is not None:
            observe_hit(entry.provider, entry.cost_nanousd)
            self.shelf.hits.add(principal.tenant_id, entry)
        return given

    async def _joined(
        self, address: Address, until: Deadline, context: CallContext
    ) -> Lead | Landed:
        """Return what a question comes to that another asks, or the lead that it has given up."""
        try:
            async with self.kit.clock.timeout(until.left_s(self.kit.clock)):
                return await self.shelf.flights.join(address.digest)
        except TimeoutError as error:
            if context.own_deadline:
                raise DeadlineExceeded(
                    "The time given by X-Sluiceway-Timeout was over before any target answered."
                ) from error
            raise ChainFailed(
                "upstream_timeout",
                "The same question, asked before, has no answer yet.",
                attempts=(),
            ) from error


def _is_wanted(control: CacheControl, age_s: float) -> bool:
    """Return whether the caller takes an answer of that age."""
    return not control.no_cache and (control.max_age_s is None or age_s <= control.max_age_s)


def _told(control: CacheControl) -> CacheTold:
    """Return what is told of an answer that was asked for, counted."""
    told = BYPASS if control.no_cache else MISS
    CACHE_LOOKS[told.result].note()
    return told


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


def _another(failure: ChainFailed) -> ChainFailed:
    """Return the failure anew: an exception is raised once, with a trace of its own."""
    return ChainFailed(
        failure.code,
        failure.message,
        attempts=failure.attempts,
        error=failure.error,
        retry_after_s=failure.retry_after_s,
    )
