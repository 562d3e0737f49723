"""A call that is made for the cache, and for all that wait for the same answer."""

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import msgspec

from shared.cache.control import PLAIN, CacheControl
from shared.cache.entry import Address, Entry, Looked
from shared.cache.flights import Landed, Lead
from shared.cache.wiring import Shelf
from shared.clock import Clock, Deadline
from shared.errors import ChainFailed, DeadlineExceeded
from shared.gateway.answer import BYPASS, Answer, CacheTold, CallContext, hit
from shared.identity import Principal
from shared.ledger.books import Books, Charge, Opening, Outcome
from shared.routing.route import Route
from shared.telemetry.tally import CACHE_LOOKS, observe_hit

OK = 200

Given = TypeVar("Given")


class NotedBooks:
    """Books that are kept by others, and what was charged in them."""

    __slots__ = ("_books", "charges")

    def __init__(self, books: Books) -> None:
        self.charges: list[Charge] = []
        self._books = books

    def open(self, opening: Opening) -> Coroutine[Any, Any, None]:
        """Record that the provider is about to be called."""
        return self._books.open(opening)

    def close(self, charge: Charge) -> None:
        """Record how the attempt ended."""
        self.charges.append(charge)
        self._books.close(charge)

    @property
    def good(self) -> Charge | None:
        """The charge of the one attempt that the answer came from.

        None where it was put together from several: the cost of one then says nothing.
        """
        good: Charge | None = None
        for charge in self.charges:
            if charge.outcome is Outcome.INTERRUPTED:
                return None
            if charge.outcome is Outcome.SUCCEEDED:
                if good is not None:
                    return None
                good = charge
        return good


class Led(msgspec.Struct, eq=False):
    """A call as the cache sees it: made for the cache, and for all that wait for the same answer.

    Without an `address` it is none of the cache's business. It has no `lead` while another asks the
    same, and has not `looked` where it must wait for what the cache says; once it `is_ready`, or
    `given` has nothing to give, one without a lead is made for itself alone. `told` is what its
    caller is told of the cache then, `until` when all must have ended, where it had to wait.
    """

    _shelf: Shelf
    _clock: Clock
    route: Route
    told: CacheTold
    address: Address | None = None
    lead: Lead | None = None
    looked: Looked | None = None
    is_ready: bool = False
    until: Deadline | None = None

    async def given(
        self,
        principal: Principal,
        context: CallContext,
        deadline: Deadline,
        give: Callable[[Entry, CacheTold], Given | None],
    ) -> Given | None:
        """Return the answer if there is one to give.

        `give` makes the answer of an entry, None where it cannot.

        Raises:
            ChainFailed: what the same question, asked at the same time, has come to.
            DeadlineExceeded: the caller's own time ran out while another was asking.
        """
        if self.address is None:
            return None
        if self.lead is None:
            # Waiting for another is a part of the route's time.
            total = Deadline.after(self.route.timeouts.total_s, self._clock)
            self.until = total if total.at_s < deadline.at_s else deadline
            began_s = self._clock.monotonic()
            lead = await self._joined(self.address, self.until, context)
            if isinstance(lead, Landed):
                waited_s = self._clock.monotonic() - began_s
                return self._shared(principal, lead, waited_s, give)
            self.lead = lead
        if self.looked is None:
            try:
                self.looked = await self._shelf.cache.look(self.address)
            except BaseException as failure:
                self.fail(failure)
                raise
        looked = self.looked
        if looked is None:  # it is away
            self.found(None)
            self._go_alone()
            return None
        if looked.entry is None or not _is_wanted(context.cache or PLAIN, looked.age_s):
            return None
        self.found(looked.entry)
        told = hit(looked.entry, age_s=looked.age_s)
        return self._made(principal, looked.entry, told, give)

    def answered(self, answer: Answer) -> None:
        """Keep a whole answer, if it may be, and give it to those that wait."""
        lead, entry = self.lead, None
        if lead is None:
            return
        if answer.media_type is None and answer.status == OK:
            entry = Entry(
                body=answer.body,
                route=answer.route,
                provider=answer.provider,
                model=answer.model,
                reported_model=answer.reported_model,
                usage=answer.usage,
                cost_nanousd=answer.given_nanousd,
                dropped=answer.dropped,
            )
            address, looked = self.address, self.looked
            # One of a fallback stands in only for as long as the route's own are down.
            if answer.given_by == self.route.model and looked is not None and address is not None:
                self._shelf.cache.keep(address, entry, looked.mark)
        lead.land(entry)
        CACHE_LOOKS[self.told.result].note()

    def streamed(self, entry: Entry, by: str) -> None:
        """Keep the answer that a target of the route `by` has streamed, as a whole one."""
        address, looked = self.address, self.looked
        if by == self.route.model and looked is not None and address is not None:
            self._shelf.cache.keep(address, entry, looked.mark)
        self.found(entry)

    def found(self, entry: Entry | None) -> None:
        """Tell those that wait what there is."""
        if self.lead is not None:
            self.lead.land(entry)

    def fail(self, failure: BaseException) -> None:
        """Tell those that wait of a failure that ends their calls, too; of others one may lead."""
        if self.lead is not None:
            self.lead.fail(failure)

    def give_up(self) -> None:
        """Let another ask; does nothing after any of the above."""
        if self.lead is not None:
            self.lead.give_up()

    def _shared(
        self,
        principal: Principal,
        landed: Landed,
        waited_s: float,
        give: Callable[[Entry, CacheTold], Given | None],
    ) -> Given | None:
        """Return what a call gets of what another one has come to.

        Raises:
            ChainFailed: that.
        """
        if landed.error is not None:
            raise _another(landed.error)
        if landed.entry is None:
            self._go_alone()
            return None
        told = hit(landed.entry, waited_s=waited_s)
        return self._made(principal, landed.entry, told, give)

    def _made(
        self,
        principal: Principal,
        entry: Entry,
        told: CacheTold,
        give: Callable[[Entry, CacheTold], Given | None],
    ) -> Given | None:
        """Return the answer made of an entry, counted as a hit."""
        given = give(entry, told)
        if given is None:
            self._go_alone()
        else:
            observe_hit(entry.provider, entry.cost_nanousd)
            self._shelf.hits.add(principal.tenant_id, entry)
        return given

    def _go_alone(self) -> None:
        """Ask for nobody else; the cache has nothing to do with it any more."""
        self.lead, self.told = None, BYPASS
        CACHE_LOOKS["bypass"].note()

    async def _joined(
        self, address: Address, until: Deadline, context: CallContext
    ) -> Lead | Landed:
        """Return what a question comes to that another asks, or the lead that it has given up."""
        try:
            async with self._clock.timeout(until.left_s(self._clock)):
                return await self._shelf.flights.join(address.digest)
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


def answer_of(entry: Entry, told: CacheTold) -> Answer:
    """Return a kept answer as one that costs nothing."""
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


def _is_wanted(control: CacheControl, age_s: float) -> bool:
    """Return whether the caller takes an answer of that age."""
    return not control.no_cache and (control.max_age_s is None or age_s <= control.max_age_s)


def _another(failure: ChainFailed) -> ChainFailed:
    """Return the failure anew: an exception is raised once, with a trace of its own."""
    return ChainFailed(
        failure.code,
        failure.message,
        attempts=failure.attempts,
        error=failure.error,
        retry_after_s=failure.retry_after_s,
    )
