"""What a caller may ask of a job."""

from datetime import UTC, datetime, timedelta

import pytest

from shared.errors import InvalidRequest
from shared.jobs.terms import Terms, Wishes, check_terms, moment

NOW = datetime(2030, 1, 31, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def test_a_job_without_wishes_has_a_day():
    expected = Terms(
        priority="default",
        deadline=NOW + 24 * HOUR,
        not_before=None,
        metadata={},
        webhook_url=None,
    )
    assert expected == check_terms(Wishes(), NOW)


def test_a_postponed_job_has_a_day_from_when_it_may_start():
    terms = check_terms(Wishes(not_before="2030-02-10T00:00:00Z"), NOW)

    assert datetime(2030, 2, 11, tzinfo=UTC) == terms.deadline


def test_a_start_in_the_past_is_no_postponement():
    assert check_terms(Wishes(not_before=0), NOW).not_before is None


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(1_896_091_200, id="whole number"),
        1_896_091_200.0,
        "1896091200",
        " 1896091200.0 ",
        "2030-01-31T12:00:00Z",
        "2030-01-31T12:00:00+00:00",
        "2030-01-31T13:30:00+01:30",
    ],
)
def test_moments(value):
    """One moment, in each form callers may write it."""
    assert NOW == moment(value, "deadline")


@pytest.mark.parametrize(
    "value",
    [
        "tomorrow",
        "",
        "2030-01-31T12:00:00",
        True,
        [],
        {},
        float("nan"),
        float("inf"),
        1e30,
        "9" * 40,
    ],
)
def test_what_is_no_moment_is_refused_by_name(value):
    with pytest.raises(InvalidRequest) as refused:
        moment(value, "not_before")

    assert "not_before" == refused.value.param


@pytest.mark.parametrize(
    ("wishes", "param"),
    [
        (Wishes(priority="urgent"), "priority"),
        (Wishes(priority=1), "priority"),
        (Wishes(deadline=1), "deadline"),
        (Wishes(deadline="2030-02-01T00:00:00Z", not_before="2030-02-02T00:00:00Z"), "deadline"),
        (Wishes(deadline="2031-01-01T00:00:00Z"), "deadline"),
        (Wishes(not_before="2031-01-01T00:00:00Z"), "not_before"),
        (Wishes(not_before="9999-12-31T23:59:59Z"), "not_before"),
        (Wishes(metadata=["a"]), "metadata"),
        (Wishes(metadata={"a": 1}), "metadata"),
        (Wishes(metadata={str(number): "" for number in range(17)}), "metadata"),
        (Wishes(metadata={"k" * 65: ""}), "metadata"),
        (Wishes(metadata={"k": "v" * 513}), "metadata"),
        (Wishes(on_budget="later"), "on_budget"),
        (Wishes(on_budget=["wait"]), "on_budget"),
        (Wishes(webhook_url=5), "webhook_url"),
        (Wishes(webhook_url="ftp://a.example/"), "webhook_url"),
        (Wishes(webhook_url="https://user:pw@a.example/"), "webhook_url"),
        (Wishes(webhook_url="https:///path"), "webhook_url"),
        (Wishes(webhook_url="https://a.example:0/"), "webhook_url"),
        (Wishes(webhook_url="https://a.example:99999/"), "webhook_url"),
        (Wishes(webhook_url="https://a.example/ b"), "webhook_url"),
        (Wishes(webhook_url="https://a.example\\@b.example/"), "webhook_url"),
        (Wishes(webhook_url="https://a.example/#part"), "webhook_url"),
        (Wishes(webhook_url="https://a.example/" + "x" * 2048), "webhook_url"),
    ],
)
def test_wrong_wishes_are_refused_by_name(wishes, param):
    with pytest.raises(InvalidRequest) as refused:
        check_terms(wishes, NOW)

    assert param == refused.value.param


def test_the_limits_themselves_are_allowed():
    metadata = {f"{number:064d}": "v" * 512 for number in range(16)}
    wishes = Wishes(
        priority="batch",
        deadline=(NOW + 31 * 24 * HOUR).timestamp(),
        metadata=metadata,
        webhook_url="http://127.0.0.1:8080/hook?x=1",
    )

    assert metadata == check_terms(wishes, NOW).metadata
