"""The ticks: each asks the database what is due and does that, in one short transaction.

Any of them may run twice, at once, in two processes: rows decide, not the caller.
"""

from shared.ids import IdMaker
from shared.jobs.expire import AT_ONCE, expire_waiting
from shared.queue.bell import Bell
from shared.queue.tasks import CLASSES, DELIVERIES, jobs_topic
from shared.store.budgets import AT_ONCE as GRANTS_AT_ONCE
from shared.store.budgets import release_expired
from shared.store.claims import release_due
from shared.store.engine import Store
from shared.store.jobs import queue_depths
from shared.store.responses import AT_ONCE as RESPONSES_AT_ONCE
from shared.store.responses import prune_responses as prune_responses_in
from shared.store.webhooks import due_deliveries
from shared.store.windows import close_hours as close_hours_in
from shared.telemetry.metrics import QUEUE_DEPTH


async def close_hours(store: Store, _bell: Bell, _ids: IdMaker) -> int:
    """Close the spend windows of ended hours; return how many rows that took."""
    async with store.write() as tx:
        return await close_hours_in(tx, await tx.now())


async def ring_due_jobs(store: Store, bell: Bell, _ids: IdMaker) -> int:
    """Queue the scheduled jobs whose moment has come and ring; return how many classes."""
    async with store.write() as tx:
        classes = await release_due(tx, await tx.now())
    for name in sorted(classes):
        bell.ring(jobs_topic(name))
    return len(classes)


async def ring_due_deliveries(store: Store, bell: Bell, _ids: IdMaker) -> int:
    """Ring when webhook deliveries are due; return how many are."""
    async with store.read() as tx:
        due = await due_deliveries(tx, await tx.now())
    if due:
        bell.ring(DELIVERIES)
    return due


async def ring_waiting_jobs(store: Store, bell: Bell, _ids: IdMaker) -> int:
    """Ring for jobs that still wait, in case a ring was lost, and show how many; return that."""
    async with store.read() as tx:
        depths = await queue_depths(tx)
    for name in CLASSES:
        QUEUE_DEPTH.labels(name).set(depths.get(name, 0))
        if depths.get(name):
            bell.ring(jobs_topic(name))
    return sum(depths.values())


async def expire_jobs(store: Store, bell: Bell, ids: IdMaker) -> int:
    """End waiting jobs whose deadline has passed; return how many."""
    count = 0
    while True:
        ended = await expire_waiting(store, bell, ids)
        count += ended
        if ended < AT_ONCE:
            return count


async def release_grants(store: Store, _bell: Bell, _ids: IdMaker) -> int:
    """Take back the grants that nobody has renewed for longer than a call lasts; return how many.

    Their processes died with their spools: what replays a spool takes its grants back at once.
    """
    count = 0
    while True:
        async with store.write() as tx:
            released = await release_expired(tx)
        count += released
        if released < GRANTS_AT_ONCE:
            return count


async def prune_responses(store: Store, _bell: Bell, _ids: IdMaker) -> int:
    """Delete the responses that have been kept for long enough; return how many."""
    count = 0
    while True:
        async with store.write() as tx:
            pruned = await prune_responses_in(tx, await tx.now())
        count += pruned
        if pruned < RESPONSES_AT_ONCE:
            return count
