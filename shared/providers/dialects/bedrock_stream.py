"""ConverseStream: frames of an event stream as deltas."""

import msgspec

from shared.chat.response import ChatDelta, ReasoningDelta, ToolDelta
from shared.errors import FailureKind, UpstreamError
from shared.providers.dialects.bedrock_errors import error_inside, header_name
from shared.providers.dialects.bedrock_frames import BrokenFrame, Frame, FrameParser
from shared.providers.dialects.bedrock_models import family_of
from shared.providers.dialects.bedrock_reading import (
    extra_of,
    finish_of,
    free_text,
    proof_of,
    tier_of,
    usage_of,
)
from shared.providers.dialects.bedrock_wire import Event, ReasoningPiece, ToolUse, leniently
from shared.providers.translation import Asked, Decoded

_decode = leniently(msgspec.json.Decoder(Event).decode)
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class BedrockDecoder:
    """Turns the bytes of one stream into deltas.

    The usage comes after the message has stopped, so the stream has ended when both are there.
    """

    def __init__(self, asked: Asked) -> None:
        self._frames = FrameParser()
        self._asked = asked
        self._blocks = _Blocks(asked)
        self._stopped = False
        self._counted = False

    def feed(self, chunk: bytes) -> Decoded:
        """Take the next bytes."""
        deltas: list[ChatDelta] = []
        try:
            for frame in self._frames.feed(chunk):
                deltas += self._frame(frame)
                if self._stopped and self._counted:
                    return Decoded(deltas=tuple(deltas), ended=True)
        except BrokenFrame as error:
            return Decoded(deltas=tuple(deltas), error=_unreadable(str(error)))
        except UpstreamError as error:
            return Decoded(deltas=tuple(deltas), error=error)
        return Decoded(deltas=tuple(deltas))

    def finish(self) -> Decoded:
        """Take the orderly end of the connection."""
        if self._frames.waiting:
            return Decoded(error=_unreadable("it ends within a frame"))
        return Decoded()

    def _frame(self, frame: Frame) -> list[ChatDelta]:
        headers = frame.headers
        kind = headers.get(":message-type", "event")
        if kind == "exception":
            raise error_inside(header_name(headers), frame.payload)
        if kind == "error":
            said = msgspec.json.encode({"message": headers.get(":error-message")})
            raise error_inside(header_name(headers), said)
        name = headers.get(":event-type", "")
        try:
            event = _decode(frame.payload)
        except _UNREADABLE as error:
            raise _unreadable("an event is not JSON") from error
        match name:
            case "contentBlockDelta":
                return self._blocks.delta(event)
            case "contentBlockStart":
                return self._blocks.start(event)
            case "contentBlockStop":
                return self._blocks.stop(event.content_block_index)
            case "messageStart":
                return [ChatDelta(model=self._asked.model)]
            case "messageStop":
                self._stopped = True
                return self._stop(event)
            case "metadata":
                self._counted = True
                return self._metadata(event)
            case _:
                return []

    def _stop(self, event: Event) -> list[ChatDelta]:
        deltas = self._blocks.end()
        finish = finish_of(event.stop_reason, called=self._blocks.calls > 0)
        extra = extra_of(event)
        if self._blocks.citations:
            extra["citations"] = self._blocks.citations
        return [*deltas, ChatDelta(finish=finish, extra=extra or None)]

    def _metadata(self, event: Event) -> list[ChatDelta]:
        usage = usage_of(event.usage, tier_of(event))
        return [ChatDelta(usage=usage, extra=extra_of(event) or None)]


class _Call:
    """A tool call under way."""

    def __init__(self, index: int, *, held: bool) -> None:
        self.index = index
        self.held = held
        self.pieces: list[str] = []
        self.begun = False


class _Blocks:
    """The content blocks of one message."""

    def __init__(self, asked: Asked) -> None:
        self.calls = 0
        self.citations: list[object] = []
        self._asked = asked
        self._signs = family_of(asked.model).signs
        self._open: dict[int, _Call] = {}
        self._json_block: int | None = None
        self._json_come = self._json_fed = False
        self._held_text: list[str] = []
        self._thoughts: dict[int, int] = {}
        self._redacted: dict[int, list[str]] = {}

    def start(self, event: Event) -> list[ChatDelta]:
        """Open a block; only tool calls announce themselves."""
        called = None if event.start is None else event.start.tool_use
        if called is None:
            return []
        if called.name == self._asked.json_tool:
            self._json_block = event.content_block_index
            self._json_come = True
            return []
        custom = called.name in self._asked.custom_tools
        call = _Call(self.calls, held=custom)
        self._open[event.content_block_index] = call
        self.calls += 1
        return [self._opening(called, call)]

    def delta(self, event: Event) -> list[ChatDelta]:
        """Take a piece of a block."""
        piece = event.delta
        if piece is None:
            return []
        if piece.text is not None:
            return self._text(piece.text)
        if piece.tool_use is not None:
            return self._input(event.content_block_index, piece.tool_use.input)
        if piece.reasoning_content is not None:
            return self._reasoning(event.content_block_index, piece.reasoning_content)
        if piece.citation is not None:
            self.citations.append(piece.citation)
        return []

    def stop(self, block: int) -> list[ChatDelta]:
        """Close a block; a call without input has empty arguments, not none."""
        if block in self._redacted:
            return [self._redacted_thought(block)]
        if block == self._json_block:
            self._json_block = None
            return [] if self._json_fed else [ChatDelta(text="{}")]
        call = self._open.pop(block, None)
        if call is None:
            return []
        if call.held:
            return [_arguments(call, _unwrapped("".join(call.pieces)))]
        return [] if call.begun else [_arguments(call, "{}")]

    def end(self) -> list[ChatDelta]:
        """Close what no event closed; text held for a form that never came is the answer."""
        waiting = [*self._open, *self._redacted]
        deltas = [delta for block in waiting for delta in self.stop(block)]
        if self._held_text and not self._json_come:
            deltas.append(ChatDelta(text="".join(self._held_text)))
        return deltas

    def _opening(self, called: ToolUse, call: _Call) -> ChatDelta:
        return ChatDelta(
            tool=ToolDelta(
                index=call.index,
                id=self._asked.call_ids.get(called.tool_use_id, called.tool_use_id),
                name=self._asked.tool_names.get(called.name, called.name),
                kind="custom" if call.held else "function",
            )
        )

    def _text(self, text: str) -> list[ChatDelta]:
        if not text:
            return []
        if self._asked.json_tool is not None:
            self._held_text.append(text)
            return []
        return [ChatDelta(text=text)]

    def _input(self, block: int, piece: str) -> list[ChatDelta]:
        if not piece:
            return []
        if block == self._json_block:
            self._json_fed = True
            return [ChatDelta(text=piece)]
        call = self._open.get(block)
        if call is None:
            return []
        call.begun = True
        if call.held:
            call.pieces.append(piece)
            return []
        return [_arguments(call, piece)]

    def _reasoning(self, block: int, piece: ReasoningPiece) -> list[ChatDelta]:
        index = self._thoughts.setdefault(block, len(self._thoughts))
        if piece.redacted_content is not None:
            self._redacted.setdefault(block, []).append(piece.redacted_content)
            return []
        if not piece.text and piece.signature is None:
            return []
        thought = ReasoningDelta(
            index=index, text=piece.text or "", signature=piece.signature, dialect=self._signs
        )
        return [ChatDelta(reasoning=thought)]

    def _redacted_thought(self, block: int) -> ChatDelta:
        proof = proof_of(*self._redacted.pop(block))
        thought = ReasoningDelta(
            index=self._thoughts[block], signature=proof, redacted=True, dialect=self._signs
        )
        return ChatDelta(reasoning=thought)


def _arguments(call: _Call, piece: str) -> ChatDelta:
    kind = "custom" if call.held else "function"
    return ChatDelta(tool=ToolDelta(index=call.index, arguments=piece, kind=kind))  # type: ignore[arg-type]


def _unwrapped(arguments: str) -> str:
    """Return a free text out of its argument; what is cut off stays as it came."""
    try:
        return free_text(msgspec.json.decode(arguments or "{}"))
    except _UNREADABLE:
        return arguments


def _unreadable(why: str) -> UpstreamError:
    return UpstreamError(FailureKind.MALFORMED, f"The provider's stream is unreadable: {why}.")
