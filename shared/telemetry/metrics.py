"""Every metric, declared once; `docs/reference/metrics.md` is checked against this file.

Names and units follow Prometheus: counters end in `_total`, lengths are seconds. Labels come from
closed sets only (codes, configured providers, our own paths), never from callers: whatever is not
in the set counts as `other`. Gauges are of living processes only, so each has a `live` mode. What
every call observes goes through `tally`, which costs a tenth.
"""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
)
from prometheus_client.metrics import MetricWrapperBase

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each of ours

REGISTRY = CollectorRegistry()
"""Of this process; `exposition` adds up several."""

# From a refusal at the door to a long reasoning answer.
_CALL_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_FIRST_TOKEN_S = (0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1, 1.5, 2.5, 5, 10, 20, 40, 60)
_QUEUE_S = (0.05, 0.25, 1, 3, 10, 30, 60, 300, 1800, 7200, 28800, 86400)
_OVERHEAD_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
_LAG_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.3, 0.5, 1, 2.5, 5)
_HOLD_S = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5)

REQUESTS = Counter(
    "sluiceway_requests_total",
    "Inference requests answered, by path, HTTP status and error code.",
    ("endpoint", "status", "code"),
    registry=REGISTRY,
)
REQUEST_SECONDS = Histogram(
    "sluiceway_request_seconds",
    "Seconds from a request's arrival to the end of its answer.",
    ("endpoint",),
    buckets=_CALL_S,
    registry=REGISTRY,
)
ATTEMPTS = Counter(
    "sluiceway_attempts_total",
    "Calls to providers that have ended, by outcome and error code.",
    ("provider", "outcome", "code"),
    registry=REGISTRY,
)
ATTEMPT_SECONDS = Histogram(
    "sluiceway_attempt_seconds",
    "Seconds that one call to a provider took.",
    ("provider",),
    buckets=_CALL_S,
    registry=REGISTRY,
)
BREAKER_CHANGES = Counter(
    "sluiceway_breaker_changes_total",
    "Changes of targets' breakers, by the phase they changed to.",
    ("provider", "phase"),
    registry=REGISTRY,
)
BREAKERS_NOT_CLOSED = Gauge(
    "sluiceway_breakers_not_closed",
    "Targets that are left alone or being tried again, as each process sees them.",
    ("provider",),
    multiprocess_mode="livesum",
    registry=REGISTRY,
)
TARGETS_SET_ASIDE = Counter(
    "sluiceway_targets_set_aside_total",
    "Times that a target was put last for a while: limited, or parked (its credential refused).",
    ("provider", "fact"),
    registry=REGISTRY,
)
HEDGES = Counter(
    "sluiceway_hedges_total",
    "Calls that were made of two targets at once, by which of them answered first.",
    ("winner",),
    registry=REGISTRY,
)
STREAMS_RECOVERED = Counter(
    "sluiceway_streams_recovered_total",
    "Streams that broke off and might be gone on with, by whether another target did.",
    ("outcome",),
    registry=REGISTRY,
)
RETRIES_REFUSED = Counter(
    "sluiceway_retries_refused_total",
    "Further calls that were not made because a route had made enough of them of late.",
    ("provider",),
    registry=REGISTRY,
)
FIRST_TOKEN_SECONDS = Histogram(
    "sluiceway_first_token_seconds",
    "Seconds from calling a provider to the first content of its stream.",
    ("provider",),
    buckets=_FIRST_TOKEN_S,
    registry=REGISTRY,
)
TOKENS = Counter(
    "sluiceway_tokens_total",
    "Tokens used, by kind; input includes cache reads and writes, output includes reasoning.",
    ("provider", "kind"),
    registry=REGISTRY,
)
COST = Counter(
    "sluiceway_cost_nanousd_total",
    "Cost of attempts in nano-dollars (a billionth of a US dollar).",
    ("provider",),
    registry=REGISTRY,
)
UNPRICED_ATTEMPTS = Counter(
    "sluiceway_unpriced_attempts_total",
    "Attempts whose cost is unknown because no price is.",
    ("provider",),
    registry=REGISTRY,
)
COST_DOUBTS = Counter(
    "sluiceway_cost_doubts_total",
    "Attempts whose cost is not sure, by why: usage or price estimated, or 1 % from that reported.",
    ("provider", "why"),
    registry=REGISTRY,
)
JOBS_FINISHED = Counter(
    "sluiceway_jobs_finished_total",
    "Jobs that reached a final state.",
    ("status",),
    registry=REGISTRY,
)
BATCHES_FINISHED = Counter(
    "sluiceway_batches_finished_total",
    "Batches that reached a final state.",
    ("status",),
    registry=REGISTRY,
)
JOBS_RUNNING = Gauge(
    "sluiceway_jobs_running",
    "Jobs whose call is open in this process.",
    registry=REGISTRY,
    multiprocess_mode="livesum",
)
JOB_WAIT_SECONDS = Histogram(
    "sluiceway_job_wait_seconds",
    "Seconds from a job's submission to its first start.",
    ("priority",),
    buckets=_QUEUE_S,
    registry=REGISTRY,
)
QUEUE_DEPTH = Gauge(
    "sluiceway_queue_depth",
    "Jobs that wait for a worker, at the last look.",
    ("priority",),
    registry=REGISTRY,
    multiprocess_mode="livemostrecent",
)
QUEUE_OLDEST_SECONDS = Gauge(
    "sluiceway_queue_oldest_seconds",
    "Seconds that the job which has waited longest for a worker has waited, at the last look.",
    ("priority",),
    registry=REGISTRY,
    multiprocess_mode="livemostrecent",
)
QUEUE_DRAIN_RATE = Gauge(
    "sluiceway_queue_drained_per_second",
    "Jobs per second that reached a final state in the minute before the last look.",
    ("priority",),
    registry=REGISTRY,
    multiprocess_mode="livemostrecent",
)
JOBS_STUCK = Gauge(
    "sluiceway_jobs_stuck",
    "Open jobs that do not move as they should, by reason, at the scheduler's last look.",
    ("reason",),
    registry=REGISTRY,
    multiprocess_mode="livemostrecent",
)
QUEUE_PAUSES = Gauge(
    "sluiceway_queue_pauses",
    "What operators have paused, by kind: class or tenant.",
    ("kind",),
    registry=REGISTRY,
    multiprocess_mode="livemostrecent",
)
JOB_RECOVERIES = Counter(
    "sluiceway_job_recoveries_total",
    "Jobs taken back from a worker that had died.",
    registry=REGISTRY,
)
WEBHOOK_DELIVERIES = Counter(
    "sluiceway_webhook_deliveries_total",
    "Attempts to deliver a webhook, by outcome: succeeded, retrying or failed.",
    ("outcome",),
    registry=REGISTRY,
)
SPOOL_RECORDS = Counter(
    "sluiceway_spool_records_total",
    "Attempts that moved from this process's spool to the database.",
    registry=REGISTRY,
)
SPOOL_PENDING = Gauge(
    "sluiceway_spool_pending_bytes",
    "Bytes in this process's spool that are not in the database yet.",
    registry=REGISTRY,
    multiprocess_mode="livesum",
)
LOST_ATTEMPTS = Counter(
    "sluiceway_lost_attempts_total",
    "Attempts whose process died; charged at their estimate.",
    registry=REGISTRY,
)
WINDOWS_CLOSED = Counter(
    "sluiceway_spend_windows_total",
    "Rows of spend windows: closed, or late (corrections of closed ones).",
    ("window", "kind"),
    registry=REGISTRY,
)
LEDGER_DRIFT = Gauge(
    "sluiceway_ledger_drift_nanousd",
    "Nano-dollars by which sums differ from what they are made of; always 0 while all is well.",
    ("what",),
    multiprocess_mode="livesum",
    registry=REGISTRY,
)
LEDGER_DIFFERENCES = Gauge(
    "sluiceway_ledger_differences",
    "Sums that differ from what they are made of.",
    ("what",),
    multiprocess_mode="livesum",
    registry=REGISTRY,
)
SCHEDULER_TICKS = Counter(
    "sluiceway_scheduler_ticks_total",
    "Runs of a scheduled task, by outcome: succeeded, failed or skipped.",
    ("task", "outcome"),
    registry=REGISTRY,
)
REQUESTS_IN_FLIGHT = Gauge(
    "sluiceway_requests_in_flight",
    "Inference requests that are being served, open streams included.",
    registry=REGISTRY,
    multiprocess_mode="livesum",
)
SHED = Counter(
    "sluiceway_shed_total",
    "Inference requests refused because the process had too much to do, by priority and reason.",
    ("priority", "reason"),
    registry=REGISTRY,
)
IDEMPOTENT_REQUESTS = Counter(
    "sluiceway_idempotent_requests_total",
    "Requests with an Idempotency-Key, by what became of them.",
    ("result",),
    registry=REGISTRY,
)
EVENT_LOOP_LAG_SECONDS = Histogram(
    "sluiceway_event_loop_lag_seconds",
    "Seconds that an event loop was late for a timer, looked at ten times a second.",
    ("role",),
    registry=REGISTRY,
    buckets=_LAG_S,
)
OVERHEAD_SECONDS = Histogram(
    "sluiceway_overhead_seconds",
    "Seconds of a request that were ours and no provider's, up to the first byte of its answer.",
    registry=REGISTRY,
    buckets=_OVERHEAD_S,
)
LIMITS_REFUSED = Counter(
    "sluiceway_limits_refused_total",
    "Requests refused by a limit of ours, by whose it is and what it counts.",
    ("scope_kind", "dimension"),
    registry=REGISTRY,
)
FULL_TARGETS = Counter(
    "sluiceway_full_targets_total",
    "Times a target was passed over because a limit of its own was reached.",
    ("provider",),
    registry=REGISTRY,
)
LIMITER_FALLBACK = Gauge(
    "sluiceway_limiter_fallback",
    "1 while a process counts limits without Redis, by policies.redis_down.limits.",
    registry=REGISTRY,
    multiprocess_mode="livemax",
)
BUDGET_REFUSED = Counter(
    "sluiceway_budget_refused_total",
    "Requests that a budget had no room for, by its action: reject or warn (these ran).",
    ("action",),
    registry=REGISTRY,
)
ALERTS = Counter("sluiceway_alerts_total", "Alerts about money.", ("kind",), registry=REGISTRY)
GRANT_REFILLS = Counter(
    "sluiceway_grant_refills_total",
    "Times a process asked the database for more of a budget, by outcome.",
    ("outcome",),
    registry=REGISTRY,
)
HOLD_WAIT_SECONDS = Histogram(
    "sluiceway_hold_wait_seconds",
    "Seconds that calls waited for money to be held; those that did not wait are not in it.",
    registry=REGISTRY,
    buckets=_HOLD_S,
)
REDIS_FAILURES = Counter(
    "sluiceway_redis_failures_total",
    "Calls to Redis that failed or took too long.",
    registry=REGISTRY,
)
CACHE_REQUESTS = Counter(
    "sluiceway_cache_requests_total",
    "Calls that the response cache was in the way of, by result: hit, miss or bypass.",
    ("result",),
    registry=REGISTRY,
)
CACHE_SAVED = Counter(
    "sluiceway_cache_saved_nanousd_total",
    "What hits would have cost in nano-dollars (a billionth of a US dollar).",
    ("provider",),
    registry=REGISTRY,
)
CACHE_ENTRIES = Gauge(
    "sluiceway_cache_entries",
    "Answers kept in the memory of processes.",
    registry=REGISTRY,
    multiprocess_mode="livesum",
)
CACHE_BYTES = Gauge(
    "sluiceway_cache_bytes",
    "Bytes of the answers kept in the memory of processes.",
    registry=REGISTRY,
    multiprocess_mode="livesum",
)
CACHE_EVICTIONS = Counter(
    "sluiceway_cache_evictions_total",
    "Answers that had to make room for others in memory.",
    registry=REGISTRY,
)
CACHE_AWAY = Gauge(
    "sluiceway_cache_away",
    "1 while a process cannot reach the Redis of the response cache, so that nothing is looked up.",
    registry=REGISTRY,
    multiprocess_mode="livemax",
)
STORE_FAILURES = Counter(
    "sluiceway_store_failures_total",
    "Uses of the database that failed because it was away or too slow.",
    registry=REGISTRY,
)
DEPENDENCY_UP = Gauge(
    "sluiceway_dependency_up",
    "1 while it answers, 0 while it does not, as the process worst off sees it.",
    ("dependency",),
    registry=REGISTRY,
    multiprocess_mode="livemin",
)
PROCESSES = Gauge(
    "sluiceway_processes",
    "Processes that run, by role.",
    ("role",),
    registry=REGISTRY,
    multiprocess_mode="livesum",
)
PROCESS_DEATHS = Counter(
    "sluiceway_process_deaths_total",
    "Processes that ended by themselves and were started again by their supervisor.",
    ("role",),
    registry=REGISTRY,
)
DRAINING = Gauge(
    "sluiceway_draining",
    "Processes that finish what is open and take nothing new.",
    registry=REGISTRY,
    multiprocess_mode="livesum",
)
BODIES_LOGGED = Counter(
    "sluiceway_bodies_logged_total",
    "Requests that were logged with their bodies.",
    registry=REGISTRY,
)
LOG_LINES_DROPPED = Counter(
    "sluiceway_log_lines_dropped_total",
    "Log lines given up because nobody took them from stderr fast enough.",
    registry=REGISTRY,
)
BUILD_INFO = Gauge(
    "sluiceway_build_info",
    "Always 1; the label says which version runs.",
    ("version",),
    registry=REGISTRY,
    multiprocess_mode="livemax",
)


def metrics() -> tuple[MetricWrapperBase, ...]:
    """Return every metric that is declared here."""
    return tuple(value for value in globals().values() if isinstance(value, MetricWrapperBase))
