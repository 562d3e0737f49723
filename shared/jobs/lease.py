"""Holding a job: the loss of its lease, and ending its call from outside."""

import asyncio
import enum
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class LeaseLost(Exception):
    """Another worker has the job, or nobody: nothing may be written for it any more."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"the lease of {job_id} is gone")
        self.job_id = job_id


class Reason(enum.Enum):
    """Why a running call is ended from outside."""

    CANCELLED = "cancelled"
    LEASE_LOST = "lease_lost"
    STOPPING = "stopping"


class Interrupted(Exception):
    """The call was ended from outside; it has cleaned up."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason


class Interrupt:
    """The way to end one job's call from outside while its own coroutine goes on to record it.

    `on_over` is called when the call has ended, in whatever way; what is left is to record it.
    """

    def __init__(self, on_over: Callable[[], None] = lambda: None) -> None:
        self.reason: Reason | None = None
        self._on_over = on_over
        self._call: asyncio.Task[Any] | None = None

    def stop(self, reason: Reason) -> None:
        """End the call. A lost lease outranks the other reasons, otherwise the first one counts."""
        if self.reason is None or reason is Reason.LEASE_LOST:
            self.reason = reason
        if self._call is not None:
            self._call.cancel()

    async def watch(self, call: Coroutine[Any, Any, T]) -> T:
        """Return what the call returns, which it may still do after `stop`.

        Raises:
            Interrupted: it was ended by `stop`.
        """
        if (before := self.reason) is not None:
            call.close()
            raise Interrupted(before)
        self._call = task = asyncio.create_task(call)
        try:
            return await task
        except asyncio.CancelledError:
            ours = asyncio.current_task()
            stopped = self._stopped()
            if stopped is None or (ours is not None and ours.cancelling()):
                raise
            raise Interrupted(stopped) from None
        finally:
            self._call = None
            self._on_over()

    def _stopped(self) -> Reason | None:
        return self.reason
