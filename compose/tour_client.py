"""The calls that the tour makes, over plain HTTP as any program would."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import TypeVar

import aiohttp
import msgspec

Shape = TypeVar("Shape", bound=msgspec.Struct)

LONG_POLL_S = 30
GOOD = frozenset({200, 202})


class TourFailure(Exception):
    """A step did not go as it should; the message says why, in plain words."""


class _Usage(msgspec.Struct, frozen=True):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Cost(msgspec.Struct, frozen=True):
    cost_usd: Decimal | None = None


class _Delta(msgspec.Struct, frozen=True):
    content: str | None = None


class _Choice(msgspec.Struct, frozen=True):
    delta: _Delta = _Delta()


class _Trouble(msgspec.Struct, frozen=True):
    message: str = "no reason given"
    code: str | None = None


class Completion(msgspec.Struct, frozen=True):
    """A chat completion, or a chunk of one."""

    choices: list[_Choice] = []
    usage: _Usage | None = None
    sluiceway: _Cost = _Cost()
    error: _Trouble | None = None

    @property
    def has_text(self) -> bool:
        """Whether the chunk carries a piece of the answer."""
        return any(choice.delta.content for choice in self.choices)

    @property
    def input_tokens(self) -> int | None:
        """What the prompt was counted as, None when nobody said."""
        return None if self.usage is None else self.usage.prompt_tokens

    @property
    def output_tokens(self) -> int | None:
        """What the answer was counted as, None when nobody said."""
        return None if self.usage is None else self.usage.completion_tokens

    @property
    def cost_usd(self) -> Decimal | None:
        """What a stream said it cost."""
        return self.sluiceway.cost_usd


class JobUsage(msgspec.Struct, frozen=True):
    """What a job used."""

    input_tokens: int = 0
    output_tokens: int = 0


class _Attempt(msgspec.Struct, frozen=True):
    message: str | None = None


class Job(msgspec.Struct, frozen=True):
    """A job, as far as the tour looks at it."""

    id: str
    status: str
    attempts: list[_Attempt] = []
    usage: JobUsage | None = None
    cost_usd: Decimal | None = None
    error: _Trouble | None = None

    @property
    def open(self) -> bool:
        """Whether it has not ended yet."""
        return self.status in {"scheduled", "queued", "running", "cancelling", "offloaded"}

    def check(self) -> None:
        """Make sure that it went well.

        Raises:
            TourFailure: it did not.
        """
        if self.status != "succeeded":
            raise TourFailure(f"a job is {self.status}{self.last_try()}")

    def last_try(self) -> str:
        """Return what the provider said last, or else why the job ended, to end a sentence."""
        tried = next((attempt.message for attempt in reversed(self.attempts)), None)
        why = tried or (None if self.error is None else self.error.message)
        return "" if why is None else f": {why}"


class Totals(msgspec.Struct, frozen=True):
    """What `GET /v1/usage` says."""

    requests: int
    attempts: int
    input_tokens: int
    output_tokens: int
    cost_usd: str


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def read(self, shape: type[Shape]) -> Shape:
        """Return the body as that shape.

        Raises:
            TourFailure: the answer was an error; its message is the gateway's.
        """
        if self.status not in GOOD:
            raise TourFailure(refusal(self.status, self.body))
        return msgspec.json.decode(self.body, type=shape)


class Streaming(msgspec.Struct, frozen=True, kw_only=True):
    """An answer on its way."""

    headers: Mapping[str, str]
    lines: AsyncIterator[bytes]


class Client:
    """Calls with the dev key."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def post(self, path: str, body: Mapping[str, object]) -> Answer:
        """Post JSON and return the answer."""
        async with self._session.post(self._url + path, json=body) as answer:
            return Answer(status=answer.status, headers=answer.headers, body=await answer.read())

    async def get(self, path: str, **query: str) -> Answer:
        """Get and return the answer."""
        async with self._session.get(self._url + path, params=query) as answer:
            return Answer(status=answer.status, headers=answer.headers, body=await answer.read())

    @asynccontextmanager
    async def streaming(self, path: str, body: Mapping[str, object]) -> AsyncIterator[Streaming]:
        """Post JSON and give the answer line by line.

        Raises:
            TourFailure: the answer was an error.
        """
        async with self._session.post(self._url + path, json=body) as answer:
            if answer.status not in GOOD:
                raise TourFailure(refusal(answer.status, await answer.read()))
            yield Streaming(headers=answer.headers, lines=aiter(answer.content))

    async def job(self, job_id: str, wait_s: int = 0) -> Job:
        """Return the job as it stands, after at most `wait_s` seconds."""
        return (await self.get(f"/v1/jobs/{job_id}", wait=str(wait_s))).read(Job)

    async def ended(self, job_id: str) -> Job:
        """Return the job once it has ended."""
        while True:
            job = await self.job(job_id, LONG_POLL_S)
            if not job.open:
                return job

    async def cancelled(self, job_id: str) -> Job:
        """Cancel the job and return it."""
        return (await self.post(f"/v1/jobs/{job_id}/cancel", {})).read(Job)

    async def usage(self, since_s: float) -> Totals:
        """Return the tenant's totals since that moment (epoch seconds)."""
        return (await self.get("/v1/usage", since=f"{since_s:.3f}")).read(Totals)


async def chunks_of(lines: AsyncIterator[bytes]) -> AsyncIterator[Completion]:
    """Yield a stream's chunks up to its end mark.

    Raises:
        TourFailure: it ended in an error, or without the end mark.
    """
    async for line in lines:
        if not line.startswith(b"data:"):
            continue
        data = line[5:].strip()
        if data == b"[DONE]":
            return
        chunk = msgspec.json.decode(data, type=Completion)
        if chunk.error is not None:
            raise TourFailure(f"the stream broke off: {chunk.error.message}")
        yield chunk
    raise TourFailure("the stream ended without its end mark")


class _Refusal(msgspec.Struct, frozen=True):
    error: _Trouble


def refusal(status: int, body: bytes) -> str:
    """Return why a call was refused, in the gateway's words."""
    try:
        error = msgspec.json.decode(body, type=_Refusal).error
    except msgspec.DecodeError:
        return f"HTTP {status}"
    return f"HTTP {status}: {error.message}"
