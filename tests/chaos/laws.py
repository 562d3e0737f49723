"""What holds whatever is killed, wiped or away, as questions whose answer must be: nothing.

Numbers are those of the promises: 1 every accepted job ends, 2 one result that never changes,
3 one ledger row per call, 4 no money held for what does not run, 5 every end is told,
6 one job per Idempotency-Key, 9 waiting costs no attempt, 10 a batch is the sum of its lines,
11 a stream is told without a gap, 12 a budget is never passed. The others (7, 8) are about moments
in between: the tests that make them happen look at them.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

Rows = Callable[[str], Sequence[dict[str, Any]]]
"""Runs a query and returns what it finds."""

FINAL = "('succeeded', 'failed', 'cancelled', 'expired')"
LEASED = "('running', 'cancelling')"


class Law(msgspec.Struct, frozen=True):
    """`offenders` is a query that finds who breaks it."""

    number: int
    says: str
    offenders: str


ALWAYS = (
    Law(
        2,
        "who waits or is over is held by nobody, and only who is over has an end",
        f"""
        SELECT id, status FROM job WHERE
        (status NOT IN {LEASED} AND (lease_owner IS NOT NULL OR lease_until IS NOT NULL))
        OR (status IN {LEASED} AND lease_until IS NULL)
        OR (status IN {FINAL}) <> (finished_at IS NOT NULL)
        OR (status IN ('failed', 'cancelled', 'expired')) <> (error IS NOT NULL)
        OR (status = 'succeeded') <> (response_status IS NOT NULL)
        """,
    ),
    Law(
        3,
        "a job that succeeded has exactly one call that did",
        """
        SELECT id, calls FROM (SELECT job.id, (SELECT COUNT(*) FROM ledger
        WHERE ledger.job_id = job.id AND outcome = 'succeeded') AS calls
        FROM job WHERE status = 'succeeded') AS found WHERE calls <> 1
        """,
    ),
    Law(
        3,
        "call and ledger row say the same, and neither is without the other",
        """
        SELECT attempt.id, attempt.outcome, ledger.outcome AS booked FROM attempt
        LEFT JOIN ledger ON ledger.attempt_id = attempt.id
        WHERE (ledger.attempt_id IS NULL AND attempt.outcome NOT IN ('cancelled'))
        OR (ledger.attempt_id IS NOT NULL AND
            (attempt.outcome IS NULL OR attempt.outcome <> ledger.outcome))
        UNION ALL
        SELECT attempt_id, '', outcome FROM ledger WHERE job_id IS NOT NULL
        AND adjusts IS NULL AND attempt_id NOT IN (SELECT id FROM attempt)
        """,
    ),
    Law(
        3,
        "a job that succeeded cost what its calls cost",
        """
        SELECT id, cost_nanousd FROM job WHERE status = 'succeeded' AND cost_nanousd <>
        (SELECT SUM(cost_nanousd) FROM ledger WHERE job_id = job.id)
        """,
    ),
    Law(
        3,
        "only who runs has calls under way",
        f"""
        SELECT attempt.id, job.status FROM attempt JOIN job ON job.id = attempt.job_id
        WHERE outcome IS NULL AND status NOT IN {LEASED}
        """,
    ),
    Law(
        3,
        "budgets have settled what the ledger says",
        """
        SELECT budget_id, settled, spent FROM (SELECT budget_id, SUM(settled_nanousd) AS settled,
        (SELECT COALESCE(SUM(cost_nanousd), 0) FROM ledger
         WHERE budget_id LIKE 'tenant:' || ledger.tenant_id || '/%') AS spent
        FROM budget_window GROUP BY budget_id) AS found WHERE settled <> spent
        """,
    ),
    Law(
        4,
        "money is held only for jobs that run, and windows know how much",
        f"""
        SELECT owner AS id, amount_nanousd AS amount FROM budget_grant
        WHERE owner LIKE 'job:%' AND amount_nanousd <> 0 AND owner NOT IN
        (SELECT 'job:' || id FROM job WHERE status IN {LEASED})
        UNION ALL
        SELECT budget_id, granted_nanousd FROM budget_window
        WHERE granted_nanousd <> (SELECT COALESCE(SUM(amount_nanousd), 0) FROM budget_grant
        WHERE budget_grant.budget_id = budget_window.budget_id
        AND budget_grant.starts_at = budget_window.starts_at)
        """,
    ),
    Law(
        10,
        "a batch has as many jobs as lines were made, and in the end counts them all",
        f"""
        SELECT id, status, made FROM (SELECT batch.*,
        (SELECT COUNT(*) FROM job WHERE job.batch_id = batch.id) AS made,
        (SELECT COUNT(*) FROM job WHERE job.batch_id = batch.id AND status = 'succeeded') AS good,
        (SELECT COUNT(*) FROM job WHERE job.batch_id = batch.id AND status NOT IN {FINAL}) AS open
        FROM batch) AS found
        WHERE made <> lines_made OR made > lines_total
        OR (completed IS NOT NULL AND
            (open > 0 OR completed <> good OR completed + failed <> lines_total))
        """,
    ),
    Law(
        11,
        "kept events follow each other without a gap, and one run has told them all",
        """
        SELECT job_id, first_no FROM job_event AS this WHERE
        first_no <> COALESCE((SELECT MAX(last_no) + 1 FROM job_event AS before
            WHERE before.job_id = this.job_id AND before.first_no < this.first_no), 0)
        OR last_no < first_no
        OR EXISTS (SELECT 1 FROM job_event AS other WHERE other.job_id = this.job_id
            AND other.token > 0 AND this.token > 0 AND other.token <> this.token)
        """,
    ),
)
"""At every moment, between any two transactions."""

IN_THE_END = (
    Law(1, "every job is over", f"SELECT id, status FROM job WHERE status NOT IN {FINAL}"),
    Law(
        1,
        "every batch is over",
        """
        SELECT id, status FROM batch
        WHERE status NOT IN ('completed', 'failed', 'cancelled', 'expired')
        """,
    ),
    Law(3, "no call is under way", "SELECT id, job_id FROM attempt WHERE outcome IS NULL"),
    Law(
        4,
        "nothing is held",
        "SELECT budget_id, granted_nanousd FROM budget_window WHERE granted_nanousd <> 0",
    ),
    Law(
        5,
        "every event was delivered",
        "SELECT id, status, last_error FROM delivery WHERE status <> 'succeeded' OR attempts = 0",
    ),
)
"""Beside those, once nobody is asking and everything has had its time."""


def broken(rows: Rows, *, over: bool = False) -> list[str]:
    """Return how the laws are broken, those of the end too when all is `over`."""
    laws = (*ALWAYS, *IN_THE_END) if over else ALWAYS
    found = [f"{law.number}: {law.says}: {one}" for law in laws for one in rows(law.offenders)]
    return [*found, *untold(rows)]


def untold(rows: Rows) -> list[str]:
    """Return the jobs whose end was not told exactly once, or told too early, or wrongly."""
    told: dict[str, list[str]] = {}
    for event in rows("SELECT type, body FROM webhook_event WHERE type LIKE 'job.%'"):
        told.setdefault(_subject(event), []).append(event["type"])
    wanted = {
        job["id"]: [f"job.{job['status']}"]
        for job in rows(f"""
            SELECT id, status FROM job WHERE status IN {FINAL}
            AND webhook_url IS NOT NULL AND batch_id IS NULL AND response_id IS NULL
        """)
    }
    return [
        f"5: {id_} was told as {told.get(id_, [])}, is {wanted.get(id_, [])}"
        for id_ in sorted(told.keys() | wanted.keys())
        if told.get(id_) != wanted.get(id_)
    ]


def passed(rows: Rows, limit_nanousd: int) -> list[str]:
    """Return the budgets that have settled and granted more than the limit of each (law 12)."""
    return [
        f"12: {one}"
        for one in rows(f"""
            SELECT budget_id, settled_nanousd, granted_nanousd FROM budget_window
            WHERE settled_nanousd + granted_nanousd > {limit_nanousd}
        """)
    ]


def _subject(event: dict[str, Any]) -> str:
    data: dict[str, str] = json.loads(bytes(event["body"]))["data"]
    return data["id"]
