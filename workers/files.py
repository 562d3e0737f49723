"""The caretaker that deletes files and uploads whose time is over."""

from shared.clock import Clock
from shared.files.keeping import Shelves, prune_files
from workers.loops import repeat

EVERY_S = 60.0


async def keep_pruning_files(shelves: Shelves, clock: Clock) -> None:
    """Look for them until cancelled."""
    await repeat("files", lambda: prune_files(shelves), every_s=EVERY_S, clock=clock)
