"""Lines of output and error files. Pure.

The same row always gives the same bytes: a file that is written twice is the same file.
"""

import msgspec

from shared.store.batch_lines import LineRow

EXPIRED = "batch_expired"
CANCELLED = "batch_cancelled"
_MESSAGES = {
    EXPIRED: "This request could not be executed before the completion window expired.",
    CANCELLED: "This request was not executed because its batch was cancelled.",
}
_OF_STATUS = {"expired": EXPIRED, "cancelled": CANCELLED}
_HIDDEN = frozenset({"upstream_status", "attempts"})


class _Response(msgspec.Struct):
    status_code: int
    request_id: str
    body: msgspec.Raw


class _Error(msgspec.Struct):
    code: str
    message: str


class _Line(msgspec.Struct):
    id: str
    custom_id: str | None
    response: _Response | None
    error: _Error | None


def output_line(row: LineRow, body: bytes) -> bytes:
    """Return the line of a call that succeeded with this answer."""
    response = _Response(
        status_code=row.response_status or 200, request_id=row.request_id, body=_on_one_line(body)
    )
    return _encoded(_Line(_id(row.id), row.custom_id, response, None))


def error_line(row: LineRow) -> bytes:
    """Return the line of a call that did not.

    A provider's refusal stands in `response` with its status, as it answered; whatever else
    happened stands in `error`.
    """
    failure = row.error or {}
    status = failure.get("upstream_status")
    if isinstance(status, int):
        shown = {name: value for name, value in failure.items() if name not in _HIDDEN}
        body = msgspec.Raw(msgspec.json.encode({"error": shown}))
        response = _Response(status_code=status, request_id=row.request_id, body=body)
        return _encoded(_Line(_id(row.id), row.custom_id, response, None))
    code = _OF_STATUS.get(row.status) or str(failure.get("code") or row.status)
    message = _MESSAGES.get(code) or str(failure.get("message") or f"The call {row.status}.")
    return _encoded(_Line(_id(row.id), row.custom_id, None, _Error(code, message)))


def unmade_line(batch_id: str, line_no: int, custom_id: str, code: str) -> bytes:
    """Return the line of a call that was never begun; `code` is EXPIRED or CANCELLED."""
    named = f"{batch_id.removeprefix('batch_')}{line_no:05x}"
    return _encoded(_Line(_id(named), custom_id, None, _Error(code, _MESSAGES[code])))


def _id(name: str) -> str:
    return f"batch_req_{name.removeprefix('job_')}"


def _on_one_line(body: bytes) -> msgspec.Raw:
    """Return JSON without its line breaks; OpenAI's own answers are full of them."""
    try:
        return msgspec.Raw(msgspec.json.format(body, indent=-1))
    except msgspec.DecodeError:  # no JSON: as a text
        return msgspec.Raw(msgspec.json.encode(body.decode("utf-8", "replace")))


def _encoded(line: _Line) -> bytes:
    return msgspec.json.encode(line) + b"\n"
