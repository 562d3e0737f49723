"""A call that is made for the cache, and for all that wait for the same answer."""

from collections.abc import Coroutine
from typing import Any

import msgspec

from shared.cache.entry import Address, Entry, Looked
from shared.cache.flights import Lead
from shared.cache.wiring import Shelf
from shared.gateway.answer import Answer
from shared.ledger.books import Books, Charge, Opening, Outcome
from shared.routing.route import Route

OK = 200


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
    """A call that is made for the cache, and for all that wait for the same answer.

    It has no `lead` yet while another asks the same, and has not `looked` where it must wait for
    what the cache says. `has_missed`: the cache was asked at once, and has nothing.
    """

    _shelf: Shelf
    route: Route
    address: Address
    lead: Lead | None
    looked: Looked | None = None
    has_missed: bool = False

    def answered(self, answer: Answer) -> None:
        """Keep a whole answer, if it may be, and give it to those that wait."""
        entry = None
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
        self.streamed(entry, answer.given_by)

    def streamed(self, entry: Entry | None, by: str) -> None:
        """Keep the answer that a target of the route `by` gave, and give it to those that wait.

        One of a fallback is not kept: it stands in only for as long as the route's own are down.
        """
        if entry is not None and by == self.route.model and self.looked is not None:
            self._shelf.cache.keep(self.address, entry, self.looked.mark)
        if self.lead is not None:
            self.lead.land(entry)

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
