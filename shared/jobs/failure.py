"""The `error` of a job that ended without an answer; shaped like every other error."""

from collections.abc import Callable

from shared.errors import GatewayError, JobCancelled, JobEnded, JobExpired, WorkerLost

Describe = Callable[[GatewayError], dict[str, object]]
"""Turns an error of a call into JSON values; the gateway's own, handed in by the process."""


def ended(error: JobEnded) -> dict[str, object]:
    """Return the error object of how a job ended."""
    return {"message": error.message, "type": "server_error", "param": None, "code": error.code}


def cancelled() -> JobCancelled:
    """Return the error of a job that its caller cancelled."""
    return JobCancelled("The job was cancelled.")


def expired(waited_for: str | None = None, message: str | None = None) -> JobExpired:
    """Return the error of a job whose deadline passed first, and what it waited for, if it did."""
    told = "The job's deadline passed before it was done"
    if waited_for is not None:
        told += f"; it waited for {waited_for}" + (f": {message}" if message else "")
    return JobExpired(told if message else f"{told}.")


def worker_lost() -> WorkerLost:
    """Return the error of a job whose workers died too often."""
    return WorkerLost("The job's worker died too often while running it.")


def cut_short() -> WorkerLost:
    """Return the error of a streamed job whose worker was lost when some had been told."""
    return WorkerLost("The worker was lost in the middle of the answer; it is not told anew.")
