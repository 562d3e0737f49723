"""Every metric, declared once; `docs/reference/metrics.md` is checked against this file.

Names and units follow Prometheus: counters end in `_total`, lengths are seconds. Labels come from
closed sets only (codes, configured providers, our own paths), never from callers: whatever is not
in the set counts as `other`.
"""

from functools import cache, lru_cache

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
)
from prometheus_client.metrics import MetricWrapperBase

from shared.chat.usage import Usage
from shared.errors import all_codes

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each of ours

REGISTRY = CollectorRegistry()
"""Of this process; `exposition` adds up several."""

OK = "ok"
"""The `code` of what did not fail."""

OTHER = "other"

ENDPOINTS = frozenset(
    {
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/responses",
        "/v1/messages",
        "/v1/messages/count_tokens",
        "/v1/models",
        "/v1/jobs",
        "/v1/usage",
    }
)
_HUNDREDS = frozenset(range(100, 600))

# From a refusal at the door to a long reasoning answer.
_CALL_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_FIRST_TOKEN_S = (0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1, 1.5, 2.5, 5, 10, 20, 40, 60)
_QUEUE_S = (0.05, 0.25, 1, 3, 10, 30, 60, 300, 1800, 7200, 28800, 86400)

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
JOBS_FINISHED = Counter(
    "sluiceway_jobs_finished_total",
    "Jobs that reached a final state.",
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
    multiprocess_mode="mostrecent",
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
SCHEDULER_TICKS = Counter(
    "sluiceway_scheduler_ticks_total",
    "Runs of a scheduled task, by outcome: succeeded, failed or skipped.",
    ("task", "outcome"),
    registry=REGISTRY,
)
BUILD_INFO = Gauge(
    "sluiceway_build_info",
    "Always 1; the label says which version runs.",
    ("version",),
    registry=REGISTRY,
    multiprocess_mode="max",
)


def metrics() -> tuple[MetricWrapperBase, ...]:
    """Return every metric that is declared here."""
    return tuple(value for value in globals().values() if isinstance(value, MetricWrapperBase))


def observe_request(endpoint: str, status: int, code: str | None, elapsed_s: float) -> None:
    """Count an answered request; `code` is None when it went well."""
    path = endpoint if endpoint in ENDPOINTS else OTHER
    shown = str(status) if status in _HUNDREDS else OTHER
    _counted(REQUESTS, path, shown, code_label(code)).inc()
    _timed(REQUEST_SECONDS, path).observe(elapsed_s)


def observe_attempt(
    provider: str, outcome: str, code: str | None, elapsed_s: float, usage: Usage | None
) -> None:
    """Count a call to a configured provider that has ended, with the tokens it used."""
    _counted(ATTEMPTS, provider, outcome, code_label(code)).inc()
    _timed(ATTEMPT_SECONDS, provider).observe(elapsed_s)
    if usage is not None:
        _count_tokens(provider, usage)


def observe_cost(provider: str, cost_nanousd: int | None) -> None:
    """Count what an attempt cost; None is an unknown price, which is counted as such."""
    if cost_nanousd is None:
        _counted(UNPRICED_ATTEMPTS, provider).inc()
    elif cost_nanousd:
        _counted(COST, provider).inc(cost_nanousd)


# A look-up by labels costs some 3 µs in the library, and a call makes ten of them.
@lru_cache(maxsize=4096)
def _counted(metric: Counter, *labels: str) -> Counter:
    return metric.labels(*labels)


@lru_cache(maxsize=1024)
def _timed(metric: Histogram, *labels: str) -> Histogram:
    return metric.labels(*labels)


def code_label(code: str | None) -> str:
    """Return an error code as a label: `ok` for none, `other` for one that is not ours."""
    if code is None:
        return OK
    return code if code in _codes() else OTHER


def _count_tokens(provider: str, usage: Usage) -> None:
    for kind, count in (
        ("input", usage.input_tokens),
        ("output", usage.output_tokens),
        ("cache_read", usage.cache_read_tokens),
        ("cache_write", usage.cache_write_tokens),
        ("reasoning", usage.reasoning_tokens),
    ):
        if count > 0:
            _counted(TOKENS, provider, kind).inc(count)


@cache
def _codes() -> frozenset[str]:
    return all_codes()
