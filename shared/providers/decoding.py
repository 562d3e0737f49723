"""What all readers of a provider's stream have in common: bytes in, parts of it, deltas out."""

import abc
from typing import Generic, Protocol, TypeVar

from shared.chat.response import ChatDelta
from shared.errors import FailureKind, UpstreamError
from shared.providers.translation import Decoded

Part = TypeVar("Part")


class Parser(Protocol[Part]):
    """Cuts the bytes of one stream into its parts, events or lines, however they come."""

    def feed(self, chunk: bytes) -> list[Part]:
        """Take the next bytes and return the parts they complete.

        Raises:
            ValueError: a part is too large.
        """

    def finish(self) -> list[Part]:
        """Return the last part, if it lacks only its end."""


class PartDecoder(abc.ABC, Generic[Part]):
    """A StreamDecoder over a parser; what a part says is its heir's business."""

    def __init__(self, parser: Parser[Part]) -> None:
        self._parser = parser

    def feed(self, chunk: bytes) -> Decoded:
        """Take the next bytes."""
        try:
            parts = self._parser.feed(chunk)
        except ValueError as error:
            return Decoded(error=malformed(f"The provider's stream is unreadable: {error}."))
        return self._decoded(parts)

    def finish(self) -> Decoded:
        """Take the orderly end of the connection."""
        return self._decoded(self._parser.finish())

    def _decoded(self, parts: list[Part]) -> Decoded:
        deltas: list[ChatDelta] = []
        for part in parts:
            try:
                ended = self._read(part, deltas)
            except UpstreamError as error:
                return Decoded(deltas=tuple(deltas), error=error)  # what came before it counts
            if ended:
                return Decoded(deltas=tuple(deltas), ended=True)
        return Decoded(deltas=tuple(deltas))

    @abc.abstractmethod
    def _read(self, part: Part, deltas: list[ChatDelta]) -> bool:
        """Add what a part says, and return whether it is the stream's end mark.

        Raises:
            UpstreamError: it is no such part, or an error.
        """


def malformed(message: str) -> UpstreamError:
    """Return the failure of an answer that is not what its dialect says."""
    return UpstreamError(FailureKind.MALFORMED, message)
