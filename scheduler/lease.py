"""Who leads among schedulers. Saves the others work; correctness does not depend on it."""

from shared.clock import Clock
from shared.store.engine import Store
from shared.store.leases import drop_lease, take_lease

NAME = "scheduler"
TTL_S = 15.0


class Leadership:
    """This process's claim to lead, renewed when a third of it is over."""

    def __init__(self, store: Store, clock: Clock, *, owner: str, ttl_s: float = TTL_S) -> None:
        self._store = store
        self._clock = clock
        self._owner = owner
        self._ttl_s = ttl_s
        self._taken_s: float | None = None

    async def held(self) -> bool:
        """Take or renew the lease; False while another scheduler has it.

        Raises:
            StoreUnavailable: nobody knows.
        """
        now_s = self._clock.monotonic()
        if self._taken_s is not None and now_s - self._taken_s < self._ttl_s / 3:
            return True
        self._taken_s = None
        async with self._store.write() as tx:
            token = await take_lease(tx, NAME, self._owner, self._ttl_s)
        if token is None:
            return False
        self._taken_s = now_s  # from before the transaction: the lease may not seem longer
        return True

    async def resign(self) -> None:
        """Let another scheduler lead at once.

        Raises:
            StoreUnavailable: it will lead when the lease has run out.
        """
        self._taken_s = None
        async with self._store.write() as tx:
            await drop_lease(tx, NAME, self._owner)
