"""A whole answer as the deltas of a stream; the reverse of `fold`."""

from collections.abc import Iterator

import msgspec

from shared.chat.message import ToolCall
from shared.chat.response import ChatChoice, ChatDelta, ChatResponse, ReasoningDelta, ToolDelta

PIECE = 48
"""Characters of text in one delta: some ten words, so that a reader sees it grow."""


def unfold(answer: ChatResponse) -> Iterator[ChatDelta]:
    """Yield deltas that fold into the answer: its head first, then choice after choice."""
    yield ChatDelta(
        id=answer.id,
        model=answer.model,
        created_s=answer.created_s,
        usage=answer.usage,
        billed=answer.billed,
        extra=answer.extra or None,
    )
    for choice in answer.choices:
        yield from _choice(choice)


def _choice(choice: ChatChoice) -> Iterator[ChatDelta]:
    number = choice.index
    for place, thought in enumerate(choice.reasoning):
        piece = ReasoningDelta(index=place, **msgspec.structs.asdict(thought))
        yield ChatDelta(choice=number, reasoning=piece)
    if choice.logprobs:
        # Which of them belong to which piece of the text cannot be told.
        yield ChatDelta(choice=number, text=choice.text, logprobs=choice.logprobs)
    elif choice.text is not None:
        for text in _pieces(choice.text):
            yield ChatDelta(choice=number, text=text)
    if choice.annotations:
        yield ChatDelta(choice=number, annotations=choice.annotations)
    if choice.refusal is not None:
        yield ChatDelta(choice=number, refusal=choice.refusal)
    if choice.images:
        yield ChatDelta(choice=number, images=choice.images)
    for place, call in enumerate(choice.tool_calls):
        yield ChatDelta(choice=number, tool=_call(place, call))
    if choice.finish is not None or choice.stop_sequence is not None:
        yield ChatDelta(choice=number, finish=choice.finish, stop_sequence=choice.stop_sequence)


def _call(place: int, call: ToolCall) -> ToolDelta:
    return ToolDelta(
        index=place,
        id=call.id,
        name=call.name,
        arguments=call.arguments,
        kind=call.kind,
        signature=call.signature,
    )


def _pieces(text: str) -> Iterator[str]:
    for start in range(0, max(1, len(text)), PIECE):
        yield text[start : start + PIECE]
