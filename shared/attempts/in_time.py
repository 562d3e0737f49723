"""A limit on how long an answer may take to begin, where a route has one."""

from contextlib import AbstractAsyncContextManager
from types import TracebackType

from shared.clock import Clock
from shared.config.model import Timeouts
from shared.errors import FailureKind, UpstreamError
from shared.providers.exchange import HttpRequest, OpenResponse, Transport


def beginning_in_time(transport: Transport, timeouts: Timeouts, clock: Clock) -> Transport:
    """Return the transport, bound to `first_byte_s` if that is set; else it costs nothing."""
    if timeouts.first_byte_s is None:
        return transport
    return _InTime(transport, timeouts.first_byte_s, clock)


class _InTime:
    def __init__(self, transport: Transport, first_byte_s: float, clock: Clock) -> None:
        self._transport = transport
        self._first_byte_s = first_byte_s
        self._clock = clock

    def open(
        self, request: HttpRequest, *, connect_s: float
    ) -> AbstractAsyncContextManager[OpenResponse]:
        """Send and wait for the head, so long.

        Raises:
            UpstreamError: TIMEOUT after `first_byte_s`, else what the transport raises.
        """
        call = self._transport.open(request, connect_s=connect_s)
        return _Call(call, self._first_byte_s, self._clock)


class _Call:
    def __init__(
        self, call: AbstractAsyncContextManager[OpenResponse], first_byte_s: float, clock: Clock
    ) -> None:
        self._call = call
        self._first_byte_s = first_byte_s
        self._clock = clock

    async def __aenter__(self) -> OpenResponse:
        try:
            async with self._clock.timeout(self._first_byte_s):
                return await self._call.__aenter__()
        except TimeoutError as error:
            raise UpstreamError(
                FailureKind.TIMEOUT, f"No answer began within {self._first_byte_s:g} s."
            ) from error

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._call.__aexit__(kind, error, traceback)
