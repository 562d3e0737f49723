"""What runs when. A row is a heartbeat that asks the database; it is never the record of work."""

from collections.abc import Awaitable, Callable

import msgspec

from scheduler import alerts, money, tasks
from shared.config.model import Config
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
    Row(id="compare_books", every_s=60.0, task=money.compare_books),
    Row(id="prune_responses", every_s=60.0, task=tasks.prune_responses),
    Row(id="prune_events", every_s=60.0, task=tasks.prune_events),
    Row(id="watch_queue", every_s=15.0, task=tasks.watch_queue),
    Row(id="prune_idempotency", every_s=60.0, task=tasks.prune_idempotency),
)
"""What runs whatever the config says."""


def timetable(config: Config) -> tuple[Row, ...]:
    """Return the whole timetable of a config."""
    return (
        *SCHEDULE,
        Row(id="close_windows", every_s=60.0, task=money.windows_closer(config)),
        Row(id="tell_resets", every_s=10.0, task=money.resets_teller(config)),
        Row(id="prune_windows", every_s=60.0, task=money.windows_pruner(config)),
        Row(id="tell_budgets", every_s=30.0, task=alerts.budgets_teller(config)),
        Row(id="tell_spikes", every_s=60.0, task=alerts.spikes_teller(config)),
    )
