"""Labels stay closed, whatever callers send."""

from shared.chat.usage import Usage
from shared.telemetry.exposition import exposed
from shared.telemetry.metrics import (
    REGISTRY,
    code_label,
    metrics,
    observe_attempt,
    observe_cost,
    observe_request,
)


def value(name: str, **labels: str) -> float:
    """Return what a series stands at; 0 where there is none."""
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

    observe_attempt("metered", "succeeded", None, 1.0, usage)
    observe_attempt("metered", "failed", "upstream_timeout", 1.0, None)
    observe_cost("metered", 1_500)
    observe_cost("metered", None)

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
