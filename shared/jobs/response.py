"""A response that is made in the background, as its caller sees it at any moment. Pure."""

import re
from collections.abc import Mapping

import msgspec

from shared.jobs.stream.events import written
from shared.providers.dialects.responses_served import echo_of

_SHOWN: Mapping[str, str] = {
    "scheduled": "queued",
    "queued": "queued",
    "running": "in_progress",
    # Its caller has been told so, and it will not be answered any more.
    "cancelling": "cancelled",
    "cancelled": "cancelled",
    "failed": "failed",
    "expired": "failed",
}
"""The status of a response without an answer, by that of its job."""

_made = re.compile(r"resp_([0-9a-f]{32})")
"""An id that the gateway gave: those of the items begin in the same way."""

_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class _Standing(msgspec.Struct, frozen=True):
    id: str | None = None
    status: str | None = None


_decode_standing = msgspec.json.Decoder(_Standing).decode


class _Previous(msgspec.Struct, frozen=True):
    previous_response_id: str | None = None


_decode_previous = msgspec.json.Decoder(_Previous).decode


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """What is ours about a response: its id, when it was asked for, and what it goes on from."""

    id: str
    created_at: int
    previous_id: str | None = None


def queued(raw: bytes, model: str, origin: Origin) -> bytes:
    """Return the response to a request for `model` that has just been accepted.

    Raises:
        InvalidRequest: a field of the request is of the wrong form.
    """
    return msgspec.json.encode(
        {
            "object": "response",
            "status": "queued",
            "error": None,
            "incomplete_details": None,
            "model": model,
            "output": [],
            "usage": None,
            **echo_of(raw),
            **_own(origin),
        }
    )


def previous_of(raw: bytes) -> str | None:
    """Return the id of what a job's request goes on from, which is written out in it."""
    return _decode_previous(raw).previous_response_id


def opening(body: bytes) -> bytes:
    """Return the two events that every background stream begins with, numbered 0 and 1."""
    return event("response.created", 0, body) + event("response.queued", 1, body)


class Owner:
    """Makes a provider's response ours, and the ids of its items with it where we made those."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._stem = b""

    def body(self, body: bytes) -> bytes:
        """Return the provider's response as ours."""
        made = _made.fullmatch(_decode_standing(body).id or "")
        if made is not None:
            self._stem = made[1].encode()
        return msgspec.json.encode({**_decode(self._renamed(body)), **_own(self._origin)})

    def event(self, name: bytes, data: bytes, number: int) -> bytes:
        """Return an event of the response as ours, of that number."""
        fields: dict[str, object] = {**_decode(data)}
        if "response" in fields:
            fields["response"] = msgspec.Raw(self.body(bytes(_decode(data)["response"])))
        fields["sequence_number"] = number
        return written(name, self._renamed(msgspec.json.encode(fields)))

    def _renamed(self, told: bytes) -> bytes:
        if not self._stem:
            return told
        return told.replace(self._stem, self._origin.id.removeprefix("resp_").encode())


def is_open(body: bytes) -> bool:
    """Return whether a response is still to come."""
    return _decode_standing(body).status == "queued"


def shown(status: str) -> str:
    """Return the status of a response that has no answer, by that of its job."""
    return _SHOWN[status]


def standing(body: bytes, status: str) -> bytes:
    """Return a response that is still to come, as its job of that status stands."""
    return msgspec.json.encode({**_decode(body), "status": shown(status)})


def unanswered(body: bytes, status: str, error: Mapping[str, object] | None) -> bytes:
    """Return what a response has become whose job ended in that status without an answer."""
    told: dict[str, object] = {**_decode(body), "status": shown(status)}
    if error is not None and status != "cancelled":
        told["error"] = {name: error.get(name) for name in ("code", "message")}
    return msgspec.json.encode(told)


def last_event(body: bytes, number: int) -> bytes:
    """Return the event that ends a stream with what the response has become.

    Of a cancelled one there is no event of its own in OpenAI's dialect: it has failed to come.
    """
    status = _decode_standing(body).status
    kind = status if status in {"completed", "incomplete"} else "failed"
    return event(f"response.{kind}", number, body)


def status_of(body: bytes) -> str:
    """Return the status of a response."""
    return _decode_standing(body).status or "completed"


def event(kind: str, number: int, body: bytes) -> bytes:
    """Return an event that holds the whole response."""
    told = {"type": kind, "sequence_number": number, "response": msgspec.Raw(body)}
    return written(kind.encode(), msgspec.json.encode(told))


def _own(origin: Origin) -> dict[str, object]:
    return {
        "id": origin.id,
        "created_at": origin.created_at,
        "background": True,
        "store": True,
        "previous_response_id": origin.previous_id,
    }
