"""Which request or job the running code belongs to; every log line carries it.

Context variables follow the task: a coroutine started inside `bound` sees the ids, its parent's
siblings do not.
"""

from contextvars import ContextVar, Token

REQUEST_ID: ContextVar[str | None] = ContextVar("sluiceway_request_id", default=None)
"""The request that the running code serves; the API names it without `bound`, for every call."""

_job_id: ContextVar[str | None] = ContextVar("sluiceway_job_id", default=None)


class bound:  # noqa: N801 (reads as what it does; a class because a generator costs twice)
    """Name the request, the job or both for everything that runs inside a `with`.

    An id that is not given stays what it was outside.
    """

    def __init__(self, *, request_id: str | None = None, job_id: str | None = None) -> None:
        self._request_id = request_id
        self._job_id = job_id
        self._marks: tuple[Token[str | None], Token[str | None]] | None = None

    def __enter__(self) -> None:
        self._marks = (
            REQUEST_ID.set(self._request_id or REQUEST_ID.get()),
            _job_id.set(self._job_id or _job_id.get()),
        )

    def __exit__(self, *_: object) -> None:
        if self._marks is not None:
            request_mark, job_mark = self._marks
            _job_id.reset(job_mark)
            REQUEST_ID.reset(request_mark)


def current_ids() -> dict[str, str]:
    """Return `request_id` and `job_id` of the running code, those that are known."""
    known = {"request_id": REQUEST_ID.get(), "job_id": _job_id.get()}
    return {name: value for name, value in known.items() if value is not None}
