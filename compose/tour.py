"""The tour: a call, a stream, a job with a webhook, a few jobs at once; measured and added up."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from decimal import Decimal

import aiohttp
import msgspec
from rich.live import Live

from compose.dev_config import tour_model, webhook_secret
from compose.receiver import Receiver, receiver
from compose.terminal import Terminal
from compose.tour_client import Client, Completion, Job, TourFailure, chunks_of
from compose.tour_report import Step, table_of
from shared.config.model import Config

STEP_S = 120.0
"""A step that takes longer is shown as failed."""
JOB_S = 45.0
FUTILE_JOB_S = 3.0
"""For a job when a plain call has failed already: jobs are patient, newcomers are not."""
USAGE_S = 3.0
JOBS = 5

CHAT = "/v1/chat/completions"
PROMPT = "Say in one short sentence what a sluiceway is."

_FAILURES = (
    *(TourFailure, aiohttp.ClientError, OSError),
    *(msgspec.DecodeError, ValueError, ArithmeticError),  # an answer that makes no sense
)

Measured = Callable[[], Awaitable[Step]]


class Tour:
    """The steps, against a stack that serves; one model for all of them."""

    def __init__(self, client: Client, receiver: Receiver, model: str) -> None:
        self._client = client
        self._receiver = receiver
        self._model = model
        self._since_s = time.time()
        self._job_s = FUTILE_JOB_S

    def steps(self) -> list[tuple[str, Measured]]:
        """Return what the tour shows, in order, each with its name."""
        return [
            ("Call", self._call),
            ("Stream", self._stream),
            ("Job + webhook", self._job),
            (f"{JOBS} jobs at once", self._jobs),
        ]

    async def step(self, name: str, measured: Measured) -> Step:
        """Do a step; a failure is a result as well, in plain words."""
        started_s = time.monotonic()
        try:
            async with asyncio.timeout(STEP_S):
                done = await measured()
        except TimeoutError:
            done = Step(outcome=f"no answer within {STEP_S:g} s", ok=False)
        except _FAILURES as error:
            done = Step(outcome=str(error) or type(error).__name__, ok=False)
        elapsed_ms = round((time.monotonic() - started_s) * 1000)
        return msgspec.structs.replace(done, name=name, elapsed_ms=elapsed_ms)

    async def total(self, attempts: int) -> Step:
        """Return what `GET /v1/usage` says of the tour.

        The books of sync calls reach the database in groups, so it waits up to three seconds for
        the attempts that the steps have counted.
        """
        give_up_s = time.monotonic() + USAGE_S
        while True:
            usage = await self._client.usage(self._since_s)
            if usage.attempts >= attempts or time.monotonic() > give_up_s:
                break
            await asyncio.sleep(0.1)
        return Step(
            name="Total",
            outcome=f"{usage.requests} requests, GET /v1/usage",
            attempts=usage.attempts,
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cost_usd=Decimal(usage.cost_usd),
        )

    async def _call(self) -> Step:
        answer = await self._client.post(CHAT, self._body())
        completion = answer.read(Completion)
        self._job_s = JOB_S
        return Step(
            outcome="answered",
            attempts=int(answer.headers.get("x-sluiceway-attempts", "0")),
            input_tokens=completion.input_tokens,
            output_tokens=completion.output_tokens,
            cost_usd=_usd(answer.headers.get("x-sluiceway-cost-usd")),
        )

    async def _stream(self) -> Step:
        body = {**self._body(), "stream": True, "stream_options": {"include_usage": True}}
        started_s = time.monotonic()
        first_ms: int | None = None
        pieces = 0
        last: Completion | None = None
        async with self._client.streaming(CHAT, body) as answer:
            async for chunk in chunks_of(answer.lines):
                if chunk.has_text:
                    pieces += 1
                    if first_ms is None:
                        first_ms = round((time.monotonic() - started_s) * 1000)
                if chunk.usage is not None:
                    last = chunk
        first = "none with text" if first_ms is None else f"first in {first_ms} ms"
        return Step(
            outcome=f"{pieces} pieces, {first}",
            attempts=int(answer.headers.get("x-sluiceway-attempts", "0")),
            input_tokens=None if last is None else last.input_tokens,
            output_tokens=None if last is None else last.output_tokens,
            cost_usd=None if last is None else last.cost_usd,
        )

    async def _job(self) -> Step:
        order = {**self._order(), "webhook_url": self._receiver.url}
        accepted = (await self._client.post("/v1/jobs", order)).read(Job)
        try:
            async with asyncio.timeout(self._job_s):
                told = await self._receiver.of_job(accepted.id)
        except TimeoutError as error:
            job = await self._client.cancelled(accepted.id)
            if job.status == "succeeded":
                raise TourFailure(f"done, but no webhook within {self._job_s:g} s") from error
            raise TourFailure(self._too_slow(job)) from error
        if not told.genuine:
            raise TourFailure("the webhook's signature is wrong")
        job = await self._client.job(accepted.id)
        job.check()
        return _of_jobs("webhook came, signed", [job])

    async def _jobs(self) -> Step:
        asked = (self._one_of_many(number) for number in range(JOBS))
        jobs: list[Job] = []
        for end in await asyncio.gather(*asked, return_exceptions=True):
            if isinstance(end, BaseException):  # only now: the others may end first
                raise end
            end.check()
            jobs.append(end)
        return _of_jobs(f"all {JOBS} succeeded", jobs)

    async def _one_of_many(self, number: int) -> Job:
        order = {**self._order(), "priority": "batch", "metadata": {"tour": str(number + 1)}}
        accepted = (await self._client.post("/v1/jobs", order)).read(Job)
        try:
            async with asyncio.timeout(self._job_s):
                return await self._client.ended(accepted.id)
        except TimeoutError as error:
            job = await self._client.cancelled(accepted.id)
            raise TourFailure(self._too_slow(job)) from error

    def _too_slow(self, job: Job) -> str:
        return f"not done after {self._job_s:g} s, so cancelled{job.last_try()}"

    def _order(self) -> dict[str, object]:
        return {"endpoint": CHAT, "body": self._body()}

    def _body(self) -> dict[str, object]:
        return {"model": self._model, "messages": [{"role": "user", "content": PROMPT}]}


def _of_jobs(outcome: str, jobs: list[Job]) -> Step:
    usages = [job.usage for job in jobs if job.usage is not None]
    costs = [job.cost_usd for job in jobs if job.cost_usd is not None]
    return Step(
        outcome=outcome,
        attempts=sum(len(job.attempts) for job in jobs),
        input_tokens=sum(usage.input_tokens for usage in usages),
        output_tokens=sum(usage.output_tokens for usage in usages),
        cost_usd=sum(costs, Decimal(0)) if costs else None,
    )


def _usd(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


async def walked(tour: Tour) -> AsyncIterator[list[Step]]:
    """Do the steps one by one; yield all so far, those to come with an empty outcome."""
    done: list[Step] = []
    steps = tour.steps()
    for number, (name, measured) in enumerate(steps):
        to_come = [Step(name=later, outcome="...") for later, _ in steps[number:]]
        yield [*done, *to_come]
        done.append(await tour.step(name, measured))
    attempts = sum(step.attempts or 0 for step in done)
    done.append(await tour.step("Total", lambda: tour.total(attempts)))
    # The waiting for the books is no part of what happened.
    done[-1] = msgspec.structs.replace(done[-1], elapsed_ms=None)
    yield done


async def show_tour(url: str, key: str, *, config: Config, terminal: Terminal) -> None:
    """Take the tour and show its table as it fills."""
    model = tour_model(config)
    headers = {"authorization": f"Bearer {key}"}
    async with (
        receiver(webhook_secret(config) or "") as listening,
        aiohttp.ClientSession(headers=headers) as session,
    ):
        tour = Tour(Client(session, url), listening, model)
        with Live(console=terminal, auto_refresh=False) as live:
            async for steps in walked(tour):
                live.update(table_of(steps, model), refresh=True)
