"""A gateway that gives answers again which it has given before."""

from functools import partial

from typing_extensions import override

from shared.cache.control import PLAIN
from shared.cache.flights import Lead
from shared.cache.wiring import Shelf
from shared.clock import Deadline
from shared.gateway.answer import BYPASS, MISS, CallContext, ServedStream
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
from shared.telemetry.tally import CACHE_LOOKS

STREAM_RATIO = 64
"""A stream takes some fifty times the bytes of its whole answer: of one that takes more than this
times what may be kept, the rest is not even read."""


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
        ask = partial(super().stream, principal, request, holds=holds, context=context)
        if context.cache is None:
            return await ask(deadline=deadline, books=books, route=route)
        led = self._led(principal, request, context, route)
        if not led.is_ready:
            given = await led.given(principal, context, deadline, partial(replayed, request))
            if given is not None:
                return given
        noted = books if led.lead is None else NotedBooks(books)
        try:
            stream = await ask(deadline=led.until or deadline, books=noted, route=led.route)
        except BaseException as failure:
            led.fail(failure)
            raise
        if not isinstance(noted, NotedBooks):
            stream.cache = led.told
            return stream
        CACHE_LOOKS[led.told.result].note()
        most_bytes = self.shelf.rules.max_entry_kb * 1024 * STREAM_RATIO
        recording = Recording(request, most_bytes=most_bytes)
        return RecordedStream(stream, led.told, led, recording, noted)

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

    @override
    def _led(
        self,
        principal: Principal,
        request: InferenceRequest,
        context: CallContext,
        route: Route | None,
        /,
    ) -> Led:
        """Return the call as the cache sees it.

        It has the lead unless another asks the same, and what the cache has where that is at hand.
        """
        route = route or self._route(principal, request.head.model, context)
        control = context.cache or PLAIN
        shelf = self.shelf
        address = self._names.address_of(principal, route, request, control)
        if address is None:
            CACHE_LOOKS["bypass"].note()
            return Led(shelf, self.kit.clock, route, BYPASS, is_ready=True)
        lead: Lead | None
        if control.no_cache:
            told, lead = BYPASS, shelf.flights.apart()
        else:
            told, lead = MISS, shelf.flights.lead(address.digest)
        if lead is None:
            return Led(shelf, self.kit.clock, route, told, address)
        try:
            looked = shelf.cache.at_hand(address)
        except BaseException as failure:
            lead.fail(failure)
            raise
        is_ready = looked is not None and looked.entry is None
        return Led(shelf, self.kit.clock, route, told, address, lead, looked, is_ready)
