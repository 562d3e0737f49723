"""Labels stay closed, whatever callers send."""

from concurrent.futures import ThreadPoolExecutor

from prometheus_client import Gauge

from shared.chat.usage import Usage
from shared.telemetry.adding import observe_all
from shared.telemetry.exposition import exposed
from shared.telemetry.metrics import ATTEMPT_SECONDS, DRAINING, REGISTRY, metrics
from shared.telemetry.tally import (
    MOST_WAITING,
    Steps,
    code_label,
    count_waiting,
    observe_attempt,
    observe_budget_refusal,
    observe_first_token,
    observe_limit_refusal,
    observe_request,
    watched,
)


def value(name: str, **labels: str) -> float:
    """Return what a series stands at once all is counted; 0 where there is none."""
    count_waiting()
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_a_request_is_counted_by_path_status_and_code():
    labels = {"endpoint": "/v1/embeddings", "status": "200", "code": "ok"}
    before = value("sluiceway_requests_total", **labels)

    observe_request("/v1/embeddings", 200, None, 0.25)

    assert before + 1 == value("sluiceway_requests_total", **labels)


def test_what_is_in_no_set_counts_as_other():
    labels = {"endpoint": "other", "status": "other", "code": "other"}
    before = value("sluiceway_requests_total", **labels)

    observe_request("/v1/canary", 99999, "canary", 0.25)

    assert before + 1 == value("sluiceway_requests_total", **labels)
    assert b"canary" not in exposed()[0]


def test_codes_are_ours_or_other():
    assert ["ok", "upstream_timeout", "other"] == [
        code_label(code) for code in (None, "upstream_timeout", "context_window_exceeded")
    ]


def test_an_attempt_counts_its_tokens_and_its_cost():
    usage = Usage(input_tokens=7, output_tokens=3, cache_read_tokens=2)

    observe_attempt("metered", "succeeded", None, 1.0, usage, 1_500)
    observe_attempt("metered", "failed", "upstream_timeout", 1.0, None, None)

    assert [7.0, 3.0, 2.0, 0.0] == [
        value("sluiceway_tokens_total", provider="metered", kind=kind)
        for kind in ("input", "output", "cache_read", "cache_write")
    ]
    assert 1_500.0 == value("sluiceway_cost_nanousd_total", provider="metered")
    assert 1.0 == value("sluiceway_unpriced_attempts_total", provider="metered")


def test_names_follow_prometheus():
    """Ours begin alike, and lengths are seconds, never milliseconds."""
    names = [metric.describe()[0].name for metric in metrics()]

    assert all(name.startswith("sluiceway_") for name in names)
    assert not [name for name in names if name.endswith(("_ms", "_millis", "_s"))]
    assert len(names) == len(set(names))


def test_the_exposition_is_prometheus_text():
    text, kind = exposed()

    assert kind.startswith("text/plain")
    assert b"# TYPE sluiceway_requests_total counter" in text
    assert b"process_" in text


def test_observing_many_at_once_is_observing_each():
    """The buckets, the sum and the count are the library's own."""
    amounts = [0.0, 0.005, 0.0050001, 0.3, 1, 599, 600, 601, 1e9]
    for amount in amounts:
        ATTEMPT_SECONDS.labels("one-by-one").observe(amount)

    observe_all(ATTEMPT_SECONDS, ("at-once",), amounts)

    assert series("one-by-one") == series("at-once")


def series(provider: str) -> list[tuple[str, str | None, float]]:
    return [
        (sample.name, sample.labels.get("le"), sample.value)
        for sample in next(iter(ATTEMPT_SECONDS.collect())).samples
        if sample.labels["provider"] == provider
    ]


def test_what_nobody_counts_is_counted_in_time():
    """Memory stays bounded in a process that has no event loop to count in."""
    labels = {"endpoint": "/v1/models", "status": "200", "code": "ok"}
    before = value("sluiceway_requests_total", **labels)

    for _ in range(MOST_WAITING + 1):
        observe_request("/v1/models", 200, None, 0.25, 0.001)

    counted = REGISTRY.get_sample_value("sluiceway_requests_total", labels) or 0.0
    assert before + MOST_WAITING + 1 == counted
    assert counted <= value("sluiceway_overhead_seconds_count") + before


def test_a_watched_number_is_read_with_each_count_and_gone_after():
    open_calls = [1]
    with watched(DRAINING, lambda: open_calls[0]):
        first = value("sluiceway_draining")
        open_calls[0] = 3
        second = value("sluiceway_draining")

    assert (1.0, 3.0, 0.0) == (first, second, value("sluiceway_draining"))


def test_refusals_carry_closed_labels():
    observe_limit_refusal("tenant:acme/rpm")
    observe_limit_refusal("acme/x")
    observe_budget_refusal("reject")
    observe_budget_refusal("canary")

    text = exposed()[0]
    assert b'sluiceway_limits_refused_total{dimension="rpm",scope_kind="tenant"}' in text
    assert b'sluiceway_limits_refused_total{dimension="other",scope_kind="other"}' in text
    assert b'sluiceway_budget_refused_total{action="reject"}' in text
    assert b"acme" not in text
    assert b"canary" not in text


def test_first_tokens_are_timed():
    observe_first_token("timed", 0.2)

    assert 1.0 == value("sluiceway_first_token_seconds_count", provider="timed")


def test_gauges_are_of_living_processes():
    """A gauge of a dead process would stand for ever."""
    modes = {metric._multiprocess_mode for metric in metrics() if isinstance(metric, Gauge)}

    assert modes
    assert all(mode.startswith("live") for mode in modes)


def test_each_step_is_taken_once():
    """Whatever threads note and take at the same time."""
    steps = Steps()

    def work(_):
        taken = 0
        for number in range(1000):
            steps.note()
            if number % 10 == 0:
                taken += steps.taken()
        return taken

    with ThreadPoolExecutor(4) as threads:
        taken = sum(threads.map(work, range(4)))

    assert 4000 == taken + steps.taken()
    assert 0 == steps.taken()
