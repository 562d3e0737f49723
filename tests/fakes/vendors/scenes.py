"""What the fake vendors have in common: a real socket, one scene for each next request."""

from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from typing import Self

import msgspec

from tests.fakes.upstream import Answer, Recorded, Script, Upstream, running_upstream

NAME = "up"


class SceneVendor:
    """A vendor that plays its scenes in order; `base_url` is its host's root."""

    def __init__(self) -> None:
        self.ticks = 0
        self._pause = (b"", 0.0)
        self._stack = AsyncExitStack()
        self._upstream: Upstream

    async def __aenter__(self) -> Self:
        self._upstream = await self._stack.enter_async_context(running_upstream())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def base_url(self) -> str:
        """The host's root, without `/v1`."""
        return self._upstream.base_url(NAME).removesuffix("/v1")

    @property
    def requests(self) -> list[tuple[str, Mapping[str, str], object]]:
        """What came: path below the root, headers, JSON."""
        return [
            (request.path.removeprefix(f"/{NAME}"), request.headers, request.json)
            for request in self._upstream.requests
        ]

    def script(self, *answers: Script) -> None:
        """Add scenes."""
        before, pause_s = self._pause
        paused = [_paused(answer, before, pause_s) for answer in answers] if before else answers
        self._upstream.script(NAME, *paused)

    @contextmanager
    def pausing(self, before: bytes, pause_s: float) -> Iterator[None]:
        """Give scenes that make a pause before the first piece with these bytes."""
        self._pause = (before, pause_s)
        try:
            yield
        finally:
            self._pause = (b"", 0.0)

    def always(self, answer: Script) -> None:
        """Play this whenever no scene waits."""
        self._upstream.always(NAME, answer)

    def next_scene(self, request: Recorded) -> Answer:
        """Take the next scene for this request."""
        return self._upstream._next(request)

    def forget(self) -> None:
        """Drop the scenes that wait."""
        self._upstream.forget_scripts()


def _paused(script: Script, before: bytes, pause_s: float) -> Script:
    def answer(request: Recorded) -> Answer:
        found = script(request) if callable(script) else script
        numbers = [number for number, piece in enumerate(found.pieces) if before in piece]
        return msgspec.structs.replace(found, pauses=dict.fromkeys(numbers[:1], pause_s))

    return answer
