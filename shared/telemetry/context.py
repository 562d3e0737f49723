"""Which request or job the running code belongs to; every log line carries it.

Context variables follow the task: a coroutine started inside `bound` sees the ids, its parent's
siblings do not.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_request_id: ContextVar[str | None] = ContextVar("sluiceway_request_id", default=None)
_job_id: ContextVar[str | None] = ContextVar("sluiceway_job_id", default=None)


@contextmanager
def bound(*, request_id: str | None = None, job_id: str | None = None) -> Iterator[None]:
    """Name the request, the job or both for everything that runs inside.

    An id that is not given stays what it was outside.
    """
    request_mark = _request_id.set(request_id or _request_id.get())
    job_mark = _job_id.set(job_id or _job_id.get())
    try:
        yield
    finally:
        _job_id.reset(job_mark)
        _request_id.reset(request_mark)


def current_ids() -> dict[str, str]:
    """Return `request_id` and `job_id` of the running code, those that are known."""
    known = {"request_id": _request_id.get(), "job_id": _job_id.get()}
    return {name: value for name, value in known.items() if value is not None}
