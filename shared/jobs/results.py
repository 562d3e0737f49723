"""Answers that are too large for the database: they lie in the object store.

Every run writes under a name of its own, so that a worker which lost its lease replaces nothing.
"""

from collections.abc import AsyncIterator

import msgspec

from shared.errors import OwnFault
from shared.objects.port import ObjectMissing, Objects
from shared.store.records import JobRow

MOST_INLINE_BYTES = 256 * 1024
"""An answer that is larger lies in the object store."""
_PIECE_BYTES = 256 * 1024


async def set_aside(objects: Objects, job: JobRow, body: bytes) -> str | None:
    """Store the answer of this run if it is large; return its key, else None.

    Raises:
        ObjectsUnavailable: it is not stored.
    """
    if len(body) <= MOST_INLINE_BYTES:
        return None
    key = _key(job.id, job.lease_token)
    await objects.put(key, _pieces(body))
    return key


def pieces_of(objects: Objects, job: JobRow) -> AsyncIterator[bytes]:
    """Yield the answer of a job that has one, wherever it lies.

    Raises:
        ObjectMissing, ObjectsUnavailable: it cannot be read.
    """
    if job.result_key is None:
        return _pieces(job.response_body or b"")
    return objects.get(job.result_key)


async def with_answer(objects: Objects, job: JobRow) -> JobRow:
    """Return the job with its answer in `response_body`, if it has one.

    Raises:
        OwnFault: it is gone from the object store.
        ObjectsUnavailable: the object store cannot be asked.
    """
    if job.result_key is None:
        return job
    try:
        body = b"".join([piece async for piece in pieces_of(objects, job)])
    except ObjectMissing as error:
        raise OwnFault("The job's answer is gone from the object store.") from error
    return msgspec.structs.replace(job, response_body=body)


async def forget(objects: Objects, job: JobRow) -> None:
    """Delete what runs of the job have stored, also those that never told of it.

    Raises:
        ObjectsUnavailable: something may be left.
    """
    if job.result_key is None and not job.recoveries:
        return
    for token in range(1, job.lease_token + 1):
        await objects.delete(_key(job.id, token))


def _key(job_id: str, token: int) -> str:
    return f"results/{job_id}/{token}"


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), _PIECE_BYTES):
        yield body[start : start + _PIECE_BYTES]
