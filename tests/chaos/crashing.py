"""A process that dies at one moment of one of its writes, and never comes to itself again."""

import asyncio
import sys
from collections.abc import Coroutine
from typing import Literal, NoReturn

Moment = Literal["begin", "commit", "answer"]
"""Before a transaction begins, before it commits, after that but before anybody heard of it."""


class Crash(BaseException):
    """The process is gone. No `except Exception` on the way may think otherwise."""


class CrashingStore:
    """A store whose process dies at its write of that number, counted from 0; None: never.

    `writes` are the names of those who wrote so far.
    """

    def __init__(self, store, *, number: int | None = None, moment: Moment = "begin") -> None:
        self.backend = store.backend
        self.writes: list[str] = []
        self.crashed = asyncio.Event()
        self.dead: set[asyncio.Task[object] | None] = set()
        self._store = store
        self._number = number
        self._moment = moment

    def read(self):
        self._check()
        return self._store.read()

    def write(self):
        self._check()
        due = len(self.writes) == self._number
        self.writes.append(_writer())
        return _Write(self, self._store.write(), self._moment if due else None)

    def crash(self) -> NoReturn:
        self.crashed.set()
        self._die()

    def _check(self) -> None:
        if self.crashed.is_set():
            self._die()

    def _die(self) -> NoReturn:
        self.dead.add(asyncio.current_task())
        raise Crash


class _Write:
    def __init__(self, process: CrashingStore, inner, moment: Moment | None) -> None:
        self._process = process
        self._inner = inner
        self._moment = moment

    async def __aenter__(self):
        if self._moment == "begin":
            self._process.crash()
        return await self._inner.__aenter__()

    async def __aexit__(self, kind, error, traceback):
        if kind is None and (self._moment == "commit" or self._process.crashed.is_set()):
            crash = Crash()
            await self._inner.__aexit__(Crash, crash, None)
            self._process.crash()
        done = await self._inner.__aexit__(kind, error, traceback)
        if kind is None and self._moment == "answer":
            self._process.crash()
        return done


def _writer() -> str:
    """Return who writes: module and function, or what a group of runs writes together."""
    frame = sys._getframe(2)
    module = frame.f_globals["__name__"].removeprefix("shared.")
    shared = getattr(frame.f_locals.get("self"), "_write", None)
    shared = getattr(shared, "func", shared)
    name = getattr(shared, "__name__", frame.f_code.co_qualname)
    return f"{module}:{name}"


async def until_it_crashes(life: Coroutine[object, object, None], process: CrashingStore) -> None:
    """Let a process live until its store crashes or all is done; nothing of it goes on then."""
    others = asyncio.all_tasks()
    living = asyncio.create_task(life)
    crashed = asyncio.create_task(process.crashed.wait())
    await asyncio.wait([living, crashed], return_when="FIRST_COMPLETED")
    own = asyncio.all_tasks() - others
    for task in own:
        task.cancel()
    await asyncio.gather(*own, living, *filter(None, process.dead), return_exceptions=True)
    if not process.crashed.is_set():
        living.result()
