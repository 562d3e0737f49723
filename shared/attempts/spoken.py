"""The dialects whose broken streams can be gone on with: how they are read, and spoken on."""

import abc
from collections.abc import Callable, Mapping, Sequence

from typing_extensions import override

from shared.chat.request import ChatRequest
from shared.chat.response import ChatDelta
from shared.ids import new_id
from shared.providers.dialects.anthropic_render import MessagesRenderer
from shared.providers.dialects.anthropic_stream import AnthropicDecoder
from shared.providers.dialects.completions_read import CompletionsDecoder
from shared.providers.dialects.completions_served import CompletionsRenderer
from shared.providers.dialects.openai_chat import OpenAIDecoder
from shared.providers.dialects.openai_render import OpenAIRenderer
from shared.providers.dialects.responses_read import ResponsesDecoder
from shared.providers.dialects.responses_stream import ResponsesRenderer
from shared.providers.dialects.sse import SseParser
from shared.providers.request import InferenceRequest
from shared.providers.translation import Asked, Decoded, DeltaRenderer, StreamDecoder

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
MESSAGES = "/v1/messages"
RESPONSES = "/v1/responses"

_MORE = ChatDelta(text=" ")


class Reader(abc.ABC):
    """Reads what goes out to a caller in one dialect."""

    def __init__(self, decoder: StreamDecoder) -> None:
        self._decoder = decoder

    def feed(self, piece: bytes) -> Decoded:
        """Take the next bytes."""
        return self._decoder.feed(piece)

    def is_open(self, told: Sequence[ChatDelta]) -> bool:  # noqa: ARG002 (see _MessagesReader)
        """Return whether text can follow where it stopped; `told` are all its deltas."""
        return True

    @abc.abstractmethod
    def onward(self, request: InferenceRequest, told: Sequence[ChatDelta]) -> DeltaRenderer:
        """Return what tells the rest of what was read."""


class _ChatReader(Reader):
    def __init__(self) -> None:
        super().__init__(OpenAIDecoder())

    @override
    def onward(self, request: InferenceRequest, told: Sequence[ChatDelta]) -> DeltaRenderer:
        return _brought(OpenAIRenderer(include_usage=request.include_usage), told)


class _CompletionsReader(Reader):
    def __init__(self) -> None:
        super().__init__(CompletionsDecoder())

    @override
    def onward(self, request: InferenceRequest, told: Sequence[ChatDelta]) -> DeltaRenderer:
        # Without the echo of the prompt: each telling begins with its own.
        chat = ChatRequest(
            model=request.head.model, messages=(), include_usage=request.include_usage
        )
        return _brought(CompletionsRenderer(chat), told)


class _MessagesReader(Reader):
    """Also knows the last block, for what follows has to go into it."""

    def __init__(self) -> None:
        super().__init__(AnthropicDecoder(Asked()))
        self._events = SseParser()
        self._begun = 0
        self._open = True

    @override
    def feed(self, piece: bytes) -> Decoded:
        for event in self._events.feed(piece):
            if event.name == b"content_block_start":
                self._begun += 1
                self._open = b'"type":"text"' in event.data.replace(b" ", b"")
            elif event.name == b"content_block_stop":
                self._open = False
        return super().feed(piece)

    @override
    def is_open(self, told: Sequence[ChatDelta]) -> bool:
        if not self._open:
            return False
        # Blocks that deltas do not tell apart, or have no words for, would be missing.
        shown = MessagesRenderer(new_id).render([*told, _MORE])
        return max(self._begun, 1) == shown.count(b"event: content_block_start\n")

    @override
    def onward(self, request: InferenceRequest, told: Sequence[ChatDelta]) -> DeltaRenderer:
        # A block that has begun and says nothing yet is in no delta.
        return _brought(MessagesRenderer(new_id), [*told, _MORE] if self._begun else told)


class _ResponsesReader(Reader):
    """Its renderer goes on from events that were told, for their ids are not the deltas'."""

    def __init__(self) -> None:
        self._responses = ResponsesDecoder()
        super().__init__(self._responses)

    @override
    def is_open(self, told: Sequence[ChatDelta]) -> bool:
        return self._responses.open

    @override
    def onward(self, request: InferenceRequest, told: Sequence[ChatDelta]) -> DeltaRenderer:
        return ResponsesRenderer.after(self._responses.standing)


def _brought(renderer: DeltaRenderer, told: Sequence[ChatDelta]) -> DeltaRenderer:
    """Bring it to where the caller is: id, model and open blocks stay the first one's."""
    renderer.render(told)
    return renderer


READERS: Mapping[str, Callable[[], Reader]] = {
    CHAT: _ChatReader,
    COMPLETIONS: _CompletionsReader,
    MESSAGES: _MessagesReader,
    RESPONSES: _ResponsesReader,
}
"""By the paths whose streams can be gone on with; on others a cut one ends in an error event."""
