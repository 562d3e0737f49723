"""From result rows to Structs."""

from typing import Any

import sqlalchemy as sa

from shared.store.records import AttemptRow, JobRow
from shared.store.tables import attempt, job, job_content

# A line of a batch that is over has no content: that stands in the batch's files.
_CONTENT = job.outerjoin(job_content, job_content.c.job_id == job.c.id)

JOBS_WITH_BODY: sa.Select[Any] = sa.select(
    *job.c, job_content.c.body, job_content.c.response_body
).select_from(_CONTENT)
JOBS: sa.Select[Any] = sa.select(*job.c, job_content.c.response_body).select_from(_CONTENT)


def job_of(row: sa.Row[Any]) -> JobRow:
    """Return the job of a row of `JOBS` or `JOBS_WITH_BODY`."""
    values = row._asdict()
    return JobRow(**{**values, "body": values.get("body") or b""})


def attempt_of(row: sa.Row[Any]) -> AttemptRow:
    """Return the attempt of a row of its table."""
    return AttemptRow(**row._asdict())


def attempts_where(*conditions: sa.ColumnElement[bool]) -> sa.Select[Any]:
    """Return the attempts that meet all conditions, oldest first."""
    return sa.select(attempt).where(*conditions).order_by(attempt.c.started_at, attempt.c.id)
