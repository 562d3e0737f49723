"""Accepted means done, with real processes: whatever is killed or wiped, all ends well and once.

`make chaos` does it at full length; the figures are printed.
"""

import json
import os
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.laws import broken, passed
from tests.chaos.look import looking_at
from tests.chaos.storm import LIMIT_USD, SECRET, Storm, Weather, config, moody, seen, told
from tests.fakes.receiver import Receiver, running_receiver
from tests.fakes.stack import running_stack
from tests.fakes.upstream import Upstream
from tests.fakes.vendor import running_vendor
from tests.services import RedisServer

LONG = "SLUICEWAY_CHAOS_JOBS" in os.environ


def weather() -> Weather:
    """Return a short storm, always the same; or the one that the environment asks for."""
    if not LONG:
        return Weather(seed=20260315)
    jobs = int(os.environ["SLUICEWAY_CHAOS_JOBS"])
    kills = int(os.environ.get("SLUICEWAY_CHAOS_KILLS", "20"))
    return Weather(
        seed=int(os.environ.get("SLUICEWAY_CHAOS_SEED", "0"))
        or random.SystemRandom().getrandbits(32),
        jobs=jobs,
        batch_lines=max(1, jobs // 10),
        kills=kills,
        stalls=max(1, kills // 4),
        flushes=3,
        redis_restarts=2,
        pause_s=0.2,
        patient=False,
        calm_within_s=300,
    )


@pytest.fixture
def vendor() -> Iterator[Upstream]:
    with running_vendor() as running:
        yield running


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with running_receiver(SECRET) as running:
        yield running


@pytest.mark.timeout(0 if LONG else 180)
def test_a_storm_loses_and_doubles_nothing(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    store_url: str,
    redis_server: RedisServer,
    receiver: Receiver,
    vendor: Upstream,
):
    """Each accepted job ends once, is paid for once, and is told of under one id."""
    is_postgres = store_url.startswith("postgresql")
    conditions = weather()
    print(f"storm: {conditions}")
    vendor.always("moody", partial(moody, random.Random(conditions.seed)))
    began_s = time.monotonic()
    with running_stack(
        tmp_path / "stack",
        config(vendor.base_url("moody")),
        database_url=store_url,
        redis_url=redis_server.url,
    ) as stack:
        storm = Storm(
            stack,
            conditions,
            redis=redis_server,
            postgres=request.getfixturevalue("postgres_server") if is_postgres else None,
            receiver=receiver,
        )
        storm.blow()

        with looking_at(store_url) as rows:
            assert [] == broken(rows, over=True) + passed(rows, LIMIT_USD * 10**9)
            jobs = rows("SELECT * FROM job WHERE batch_id IS NULL")
            calls = rows("SELECT attempt_id, outcome FROM ledger")
            contents = rows("""
                SELECT body, response_body, job_id FROM job_content
                JOIN job ON job.id = job_id WHERE batch_id IS NULL
            """)
        assert [0] * len(storm.living) == storm.stop()

    assert_each_name_has_its_job(storm, contents)
    assert conditions.jobs == len(jobs)
    failed = [job for job in jobs if job["status"] == "failed"]
    # A stream told in part is not begun anew, and a job that cost four workers is given up.
    codes = {json.loads(job["error"])["code"] for job in failed if not job["streamed"]}
    assert {"worker_lost"} >= codes
    assert {"succeeded", "failed"} >= {job["status"] for job in jobs}
    assert len(failed) <= conditions.jobs // 4
    heard = told(receiver)
    assert {job["id"] for job in jobs} == heard.keys()
    assert {1} == {len(ids) for ids in heard.values()}
    assert seen(vendor) <= len(calls), "every call to the provider is in the books"
    figures = {
        "seed": conditions.seed,
        "seconds": round(time.monotonic() - began_s, 1),
        "went wrong": dict(storm.done),
        "jobs": dict(Counter(job["status"] for job in jobs)),
        "recovered": sum(job["recoveries"] for job in jobs),
        "deferred": sum(job["deferrals"] for job in jobs),
        "calls": dict(Counter(call["outcome"] for call in calls)),
        "webhooks": len(receiver.webhooks),
    }
    print(f"storm: {figures}")


def assert_each_name_has_its_job(storm: Storm, contents: Sequence[dict[str, Any]]) -> None:
    """What was accepted under a name is there once, and its answer is that of its own question."""
    asked = {row["job_id"]: question(row["body"]) for row in contents}
    accepted = {
        id_: f"this is {name}" for one in storm.callers for name, id_ in one.accepted.items()
    }
    assert accepted == asked
    answered = {
        row["job_id"]: json.loads(bytes(row["response_body"]))["choices"][0]["message"]["content"]
        for row in contents
        if row["response_body"] is not None
    }
    assert answered == {id_: asked[id_] for id_ in answered}


def question(body: bytes) -> str:
    text: str = json.loads(bytes(body))["messages"][0]["content"]
    return text
