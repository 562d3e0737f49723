"""A call that is made for the cache, and for all that wait for the same answer."""

from collections.abc import Coroutine
from types import TracebackType
from typing import Any

from shared.cache.entry import Address, Entry, Mark
from shared.cache.flights import Lead
from shared.cache.wiring import Shelf
from shared.errors import ChainFailed
from shared.ledger.books import Books, Charge, Opening, Outcome
from shared.routing.route import Route


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


class Led:
    """A call that is made for the cache, and for all that wait for the same answer.

    As a context it tells those that wait of a failure: one that ends the call ends theirs, after
    any other one of them has the lead.
    """

    __slots__ = ("_address", "_lead", "_route", "_shelf", "mark")

    def __init__(self, shelf: Shelf, route: Route, address: Address, lead: Lead) -> None:
        self.mark: Mark = ()
        self._shelf = shelf
        self._route = route
        self._address = address
        self._lead = lead

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        failure: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if failure is None:
            return
        if isinstance(failure, ChainFailed):
            self._lead.land(error=failure)
        else:
            self._lead.give_up()

    def answered(self, entry: Entry | None, by: str) -> None:
        """Keep the answer that a target of the route `by` gave, and give it to those that wait.

        One of a fallback is not kept: it stands in only for as long as the route's own are down.
        """
        if entry is not None and by == self._route.model:
            self._shelf.cache.keep(self._address, entry, self.mark)
        self._lead.land(entry)

    def found(self, entry: Entry | None) -> None:
        """Tell those that wait what the cache has."""
        self._lead.land(entry)

    def give_up(self) -> None:
        """Let another ask; does nothing after any of the above."""
        self._lead.give_up()
