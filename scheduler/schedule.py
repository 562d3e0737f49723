"""What runs when. A row is a heartbeat that asks the database; it is never the record of work."""

from collections.abc import Awaitable, Callable

import msgspec

from scheduler import tasks
from shared.ids import IdMaker
from shared.queue.bell import Bell
from shared.store.engine import Store

Task = Callable[[Store, Bell, IdMaker], Awaitable[int]]
"""Does what is due and returns how much that was."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the timetable: `task` every `every_s` seconds."""

    id: str
    every_s: float
    task: Task


SCHEDULE = (
    Row(id="ring_due_jobs", every_s=1.0, task=tasks.ring_due_jobs),
    Row(id="ring_due_deliveries", every_s=2.0, task=tasks.ring_due_deliveries),
    Row(id="ring_waiting_jobs", every_s=5.0, task=tasks.ring_waiting_jobs),
    Row(id="expire_jobs", every_s=5.0, task=tasks.expire_jobs),
    Row(id="release_grants", every_s=10.0, task=tasks.release_grants),
    Row(id="close_hours", every_s=60.0, task=tasks.close_hours),
    Row(id="prune_responses", every_s=60.0, task=tasks.prune_responses),
)
"""The whole timetable."""
