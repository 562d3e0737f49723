"""What a caller may ask of a job beside the call itself, checked. Pure."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import msgspec

from shared.errors import InvalidRequest
from shared.queue.tasks import CLASSES
from shared.store.records import OnBudget, Priority
from shared.webhooks.urls import url_mistake

DEFAULT_LIFE = timedelta(hours=24)
LONGEST_LIFE = timedelta(days=31)
MOST_PAIRS = 16
LONGEST_KEY = 64
LONGEST_VALUE = 512


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """The terms as they came, from a JSON body or from headers; None where nothing was said."""

    priority: object = None
    deadline: object = None
    not_before: object = None
    metadata: object = None
    webhook_url: object = None
    on_budget: object = None


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """The terms a job runs under. `not_before` is set only when it lies ahead."""

    priority: Priority
    deadline: datetime
    not_before: datetime | None
    metadata: dict[str, str]
    webhook_url: str | None
    on_budget: OnBudget | None = None


def check_terms(wishes: Wishes, now: datetime) -> Terms:
    """Return the terms, with the defaults filled in.

    A job has 24 hours from when it may start, unless it says otherwise, and at most 31 days.

    Raises:
        InvalidRequest: one of them is wrong; `param` names it.
    """
    not_before = None if wishes.not_before is None else moment(wishes.not_before, "not_before")
    latest = now + LONGEST_LIFE
    if not_before is not None and not_before <= now:
        not_before = None
    if not_before is not None and not_before > latest:
        raise _too_far("not_before")  # also where calendars end, before anything is added to it
    if wishes.deadline is None:
        deadline = (not_before or now) + DEFAULT_LIFE
    else:
        deadline = moment(wishes.deadline, "deadline")
    if deadline <= now:
        raise InvalidRequest("deadline must lie in the future.", param="deadline")
    if not_before is not None and deadline <= not_before:
        raise InvalidRequest("deadline must come after not_before.", param="deadline")
    if deadline > latest:
        raise _too_far("not_before" if wishes.deadline is None else "deadline")
    return Terms(
        priority=_priority(wishes.priority),
        deadline=deadline,
        not_before=not_before,
        metadata=_metadata(wishes.metadata),
        webhook_url=_webhook_url(wishes.webhook_url),
        on_budget=_on_budget(wishes.on_budget),
    )


def _too_far(param: str) -> InvalidRequest:
    return InvalidRequest(f"{param} is more than {LONGEST_LIFE.days} days away.", param=param)


def moment(value: object, param: str) -> datetime:
    """Return the moment of epoch seconds (a number or its text) or of an RFC 3339 text, in UTC.

    Raises:
        InvalidRequest: it is neither, or a text without an offset from UTC.
    """
    wrong = InvalidRequest(
        f"{param} must be epoch seconds or an RFC 3339 moment such as 2030-01-31T12:00:00Z.",
        param=param,
    )
    try:
        if isinstance(value, str):
            text = value.strip()
            value = float(text) if _is_number(text) else datetime.fromisoformat(text)
        if isinstance(value, datetime):
            if value.tzinfo is None:
                raise wrong
            return value.astimezone(UTC)
        if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
            raise wrong
        return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise wrong from error


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdecimal()


def _priority(value: object) -> Priority:
    match value:
        case None:
            return "default"
        case "interactive" | "default" | "batch":
            return value
        case _:
            pass
    raise InvalidRequest(f"priority must be one of {', '.join(CLASSES)}.", param="priority")


def _on_budget(value: object) -> OnBudget | None:
    match value:
        case None | "fail" | "wait":
            return value
        case _:
            pass
    raise InvalidRequest("on_budget must be fail or wait.", param="on_budget")


def _metadata(value: object) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidRequest("metadata must be an object of texts.", param="metadata")
    if len(value) > MOST_PAIRS:
        raise InvalidRequest(f"metadata may hold {MOST_PAIRS} pairs.", param="metadata")
    for name, text in value.items():
        if not isinstance(name, str) or not isinstance(text, str):
            raise InvalidRequest("metadata must be an object of texts.", param="metadata")
        if len(name) > LONGEST_KEY or len(text) > LONGEST_VALUE:
            raise InvalidRequest(
                f"metadata keys may have {LONGEST_KEY} characters, values {LONGEST_VALUE}.",
                param="metadata",
            )
    return dict(value)


def _webhook_url(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise InvalidRequest("webhook_url must be a text.", param="webhook_url")
    mistake = url_mistake(value)
    if mistake is not None:
        raise InvalidRequest(f"webhook_url {mistake}.", param="webhook_url")
    return value
