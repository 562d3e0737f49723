"""A charge as the row the store keeps."""

from operator import attrgetter

from shared.ledger.books import Charge
from shared.store.ledger_rows import Parts

_begun = attrgetter("attempt_id", "request_id", "user", "started_at")
_ended = attrgetter("cost_nanousd", "duration_ms", "first_token_ms", "ended_at")
_used = attrgetter("input_tokens", "output_tokens", "cache_read_tokens", "reasoning_tokens")
_caller_and_target = attrgetter(
    "job_id", "batch_id", "tenant_id", "key_id", "endpoint", "route", "provider", "model", "stream",
    "price_source", "price_version",
)  # fmt: skip
_answer = attrgetter("reported_model", "code", "status_code")
_NO_CORRECTION = (None, None)
_used_seldom = attrgetter(
    "cache_read_audio_tokens", "cache_write_tokens", "cache_write_1h_tokens", "input_audio_tokens",
    "output_audio_tokens", "input_image_tokens", "output_image_tokens", "input_characters",
    "input_audio_ms", "web_searches", "estimated", "service_tier", "reported_nanousd",
)  # fmt: skip


def ledger_parts(charge: Charge) -> Parts:
    """Return the one row of an attempt; its id is the attempt's, so it cannot stand twice."""
    opening = charge.opening
    usage = charge.usage
    return (
        (*_begun(opening), *_ended(charge), *_used(usage)),
        (
            *_caller_and_target(opening),
            *_answer(charge),
            charge.outcome._value_,  # as .value, without its call
            *_NO_CORRECTION,
            *_used_seldom(usage),
        ),
        opening.tags,
        opening.budgets,
    )
