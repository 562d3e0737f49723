"""`x-ratelimit-*` as OpenAI writes them, `anthropic-ratelimit-*` as Anthropic does."""

from datetime import UTC, datetime

import pytest

from shared.limits.headers import anthropic_rate_headers, duration, rate_headers
from shared.limits.limiter import Standing


@pytest.mark.parametrize(
    ("length_s", "expected"),
    [
        (0.0, "0s"),
        (0.0001, "1ms"),
        (0.012, "12ms"),
        (0.9991, "1s"),
        (1.0, "1s"),
        (8.64, "8.64s"),
        (59.9999, "1m0s"),
        (360.0, "6m0s"),
        (3600.0, "1h0m0s"),
        (86_400.0, "24h0m0s"),
        (3661.5, "1h1m1.5s"),
    ],
)
def test_durations(length_s, expected):
    assert expected == duration(length_s)


def test_all_six():
    standing = Standing(
        limit_requests=60,
        remaining_requests=59,
        reset_requests_s=1.0,
        limit_tokens=150_000,
        remaining_tokens=149_984,
        reset_tokens_s=360.0,
    )

    assert {
        b"x-ratelimit-limit-requests": b"60",
        b"x-ratelimit-remaining-requests": b"59",
        b"x-ratelimit-reset-requests": b"1s",
        b"x-ratelimit-limit-tokens": b"150000",
        b"x-ratelimit-remaining-tokens": b"149984",
        b"x-ratelimit-reset-tokens": b"6m0s",
    } == dict(rate_headers(standing))


def test_what_is_not_limited_has_no_header():
    assert () == rate_headers(Standing())
    assert 3 == len(rate_headers(Standing(limit_tokens=1, remaining_tokens=0, reset_tokens_s=60)))


def test_anthropics_tell_the_moment():
    """Rounded up, so that whoever waits until then has waited long enough."""
    standing = Standing(
        limit_requests=60,
        remaining_requests=0,
        reset_requests_s=0.2,
        limit_tokens=1000,
        remaining_tokens=7,
        reset_tokens_s=60.0,
    )
    now = datetime(2026, 3, 1, 12, 59, 59, 900_000, tzinfo=UTC)

    assert {
        b"anthropic-ratelimit-requests-limit": b"60",
        b"anthropic-ratelimit-requests-remaining": b"0",
        b"anthropic-ratelimit-requests-reset": b"2026-03-01T13:00:01Z",
        b"anthropic-ratelimit-tokens-limit": b"1000",
        b"anthropic-ratelimit-tokens-remaining": b"7",
        b"anthropic-ratelimit-tokens-reset": b"2026-03-01T13:01:00Z",
    } == dict(anthropic_rate_headers(standing, now))
    assert [] == anthropic_rate_headers(Standing(), now)


def test_a_process_that_counted_alone_says_so():
    """A caller whose limits look smaller than they are learns why."""
    standing = Standing(limit_requests=60, remaining_requests=14, local=True)

    assert b"local" == dict(rate_headers(standing))[b"x-sluiceway-limits"]
    assert b"x-sluiceway-limits" not in dict(rate_headers(Standing(limit_requests=60)))
