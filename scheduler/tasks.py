"""The ticks: each asks the database what is due and does that, in one short transaction.

Any of them may run twice, at once, in two processes: rows decide, not the caller.
"""

from shared.ids import IdMaker
from shared.jobs.expire import AT_ONCE, expire_waiting
from shared.queue.bell import Bell
from shared.queue.tasks import CLASSES, DELIVERIES, jobs_topic
from shared.store.backlog import Backlog, backlogs
from shared.store.budgets import AT_ONCE as GRANTS_AT_ONCE
from shared.store.budgets import release_expired
from shared.store.claims import release_due
from shared.store.delivery_log import AT_ONCE as EVENTS_AT_ONCE
from shared.store.delivery_log import prune_events as prune_events_in
from shared.store.engine import Store
from shared.store.idempotency import AT_ONCE as NAMES_AT_ONCE
from shared.store.idempotency import prune_names
from shared.store.oversight import STUCK, count_stuck
from shared.store.pauses import CLASS, TENANT, pauses
from shared.store.responses import AT_ONCE as RESPONSES_AT_ONCE
from shared.store.responses import prune_responses as prune_responses_in
from shared.store.webhooks import due_deliveries
from shared.store.workers import prune_workers
from shared.telemetry.metrics import (
    JOBS_STUCK,
    QUEUE_DEPTH,
    QUEUE_DRAIN_RATE,
    QUEUE_OLDEST_SECONDS,
    QUEUE_PAUSES,
)


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
        now = await tx.now()
        found = await backlogs(tx, now)
    for name in CLASSES:
        one = found.get(name, Backlog())
        waits_s = 0.0 if one.oldest_at is None else (now - one.oldest_at).total_seconds()
        QUEUE_DEPTH.labels(name).set(one.queued)
        QUEUE_OLDEST_SECONDS.labels(name).set(max(0.0, waits_s))
        QUEUE_DRAIN_RATE.labels(name).set(one.drained_per_s)
        if one.queued:
            bell.ring(jobs_topic(name))
    return sum(one.queued for one in found.values())


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


async def prune_idempotency(store: Store, _bell: Bell, _ids: IdMaker) -> int:
    """Forget the Idempotency-Keys that have stood for their answers for long enough."""
    count = 0
    while True:
        async with store.write() as tx:
            pruned = await prune_names(tx, await tx.now())
        count += pruned
        if pruned < NAMES_AT_ONCE:
            return count


async def watch_queue(store: Store, _bell: Bell, _ids: IdMaker) -> int:
    """Show how many jobs are stuck and what is paused; return the jobs. Dead workers are forgotten.

    They have been silent for an hour.
    """
    async with store.write() as tx:
        await prune_workers(tx, await tx.now())
    async with store.read() as tx:
        stuck = await count_stuck(tx)
        scopes = [one.scope for one in await pauses(tx)]
    for reason in STUCK:
        JOBS_STUCK.labels(reason).set(stuck.get(reason, 0))
    for kind in (CLASS, TENANT):
        paused = sum(scope.startswith(kind) for scope in scopes)
        QUEUE_PAUSES.labels(kind.rstrip(":")).set(paused)
    return sum(stuck.values())


async def prune_events(store: Store, _bell: Bell, _ids: IdMaker) -> int:
    """Forget the webhook events that have been kept for long enough; return how many."""
    count = 0
    while True:
        async with store.write() as tx:
            pruned = await prune_events_in(tx, await tx.now())
        count += pruned
        if pruned < EVENTS_AT_ONCE:
            return count
