"""Limits in this process's memory: exact for one process, by share for several."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

from shared.clock import Clock
from shared.limits.limiter import Scope, Taken
from shared.limits.rules import (
    FULL,
    Demand,
    Figures,
    Levels,
    State,
    figures_of,
    fits,
    full_in_s,
    moved,
    refilled,
    refusal,
    slot_fits,
    standing_of,
)


class LocalLimiter:
    """A limiter that talks to nobody.

    With a `share` of n each call counts n times, as if the other n - 1 processes did the same;
    so the limit holds over all of them when they are equally busy. `start` are states to go on
    from, and `offset_s` is what their clock shows at the monotonic clock's zero. Callers are told
    that it is only a share, or that it `stands_in` for a common count.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        share: int = 1,
        start: Mapping[str, State] | None = None,
        offset_s: float = 0.0,
        stands_in: bool = False,
    ) -> None:
        self._clock = clock
        self._share = share
        self._told = stands_in or share > 1
        self._start = {} if start is None else start
        self._offset_s = offset_s
        self._states: dict[str, tuple[Figures, State]] = {}  # the oldest first
        self._slots: dict[str, dict[str, float]] = {}
        self._held: set[Taken] = set()

    away = False

    async def take(
        self, scopes: Sequence[Scope], *, tokens: int, slot: str, slot_s: float
    ) -> Taken:
        return self.take_now(scopes, tokens=tokens, slot=slot, slot_s=slot_s)

    def take_now(self, scopes: Sequence[Scope], *, tokens: int, slot: str, slot_s: float) -> Taken:
        """Do what `take` does, without an event loop."""
        now_s = self._clock.monotonic()
        self._forget(now_s)
        rows = [(scope, self._levels(scope, now_s), self._used(scope, now_s)) for scope in scopes]
        demand = Demand(self._share, tokens * self._share)
        figures = [figures_of(scope.limits) for scope in scopes]
        if not all(
            fits(levels, rates, demand) and slot_fits(scope.limits, used, share=self._share)
            for (scope, levels, used), rates in zip(rows, figures, strict=True)
        ):
            left = standing_of(
                [(rates, levels) for rates, (_, levels, _) in zip(figures, rows, strict=True)],
                share=self._share,
                local=self._told,
            )
            raise refusal(rows, demand, left, share=self._share)
        after = self._move(rows, Demand(-demand.requests, -demand.tokens), now_s)
        taken = Taken(
            standing=standing_of(
                list(zip(figures, after, strict=True)), share=self._share, local=self._told
            ),
            scopes=tuple(scopes),
            tokens=tokens,
            slot=slot,
            until_s=now_s + slot_s,
        )
        self.adopt(taken)
        return taken

    def adopt(self, taken: Taken) -> None:
        """Count the slot of a call; its request and tokens are in the states already."""
        self._held.add(taken)
        for scope in taken.scopes:
            if scope.limits.concurrency is not None:
                self._slots.setdefault(scope.name, {})[taken.slot] = taken.until_s

    def give_back(self, taken: Taken, *, used_tokens: int) -> None:
        self._end(taken, Demand(0, (taken.tokens - used_tokens) * self._share))

    def undo(self, taken: Taken) -> None:
        self._end(taken, Demand(self._share, taken.tokens * self._share))

    async def aclose(self) -> None:
        """Do nothing: memory ends with its process."""

    def _end(self, taken: Taken, change: Demand) -> None:
        if taken not in self._held:
            return
        self._held.discard(taken)
        now_s = self._clock.monotonic()
        self._move(
            [(scope, self._levels(scope, now_s), 0) for scope in taken.scopes], change, now_s
        )
        for scope in taken.scopes:
            self._free(scope.name, [taken.slot])

    def _levels(self, scope: Scope, now_s: float) -> Levels:
        known = self._states.get(scope.name)
        state = self._start.get(scope.name) if known is None else known[1]
        return refilled(
            State(0.0, FULL) if state is None else state,
            figures_of(scope.limits),
            now_s + self._offset_s,
        )

    def _used(self, scope: Scope, now_s: float) -> int:
        slots = self._slots.get(scope.name)
        if slots is None or scope.limits.concurrency is None:
            return 0
        if not slot_fits(scope.limits, len(slots), share=self._share):
            self._free(scope.name, [slot for slot, until_s in slots.items() if until_s <= now_s])
        return len(slots)

    def _free(self, name: str, ended: Iterable[str]) -> None:
        slots = self._slots.get(name, {})
        for slot in ended:
            slots.pop(slot, None)
        if not slots:
            self._slots.pop(name, None)

    def _move(
        self, rows: Iterable[tuple[Scope, Levels, int]], change: Demand, now_s: float
    ) -> list[Levels]:
        after = []
        for scope, levels, _ in rows:
            figures = figures_of(scope.limits)
            after.append(moved(levels, figures, change))
            self._states.pop(scope.name, None)  # to the end of the line
            self._states[scope.name] = (figures, State(now_s + self._offset_s, after[-1]))
        return after

    def _forget(self, now_s: float) -> None:
        """Look at the two oldest scopes and drop those that are full again: they say nothing.

        Two for each call, which touches about as many, so memory follows the busy ones.
        """
        for name in tuple(islice(self._states, 2)):
            figures, state = self._states.pop(name)
            if full_in_s(refilled(state, figures, now_s + self._offset_s), figures) > 0:
                self._states[name] = (figures, state)
