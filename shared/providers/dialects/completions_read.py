"""OpenAI's older dialect, read: the chunks of a continuation as deltas."""

import msgspec
from typing_extensions import override

from shared.chat.response import ChatDelta
from shared.providers.decoding import PartDecoder, malformed
from shared.providers.dialects.openai_chat import finish_of
from shared.providers.dialects.openai_stream import UNREADABLE
from shared.providers.dialects.sse import SseEvent, SseParser


class _Choice(msgspec.Struct):
    index: int | None = None
    text: str | None = None
    logprobs: object = None
    finish_reason: str | None = None
    delta: object = None
    message: object = None


class _Chunk(msgspec.Struct):
    id: object = None
    model: str | None = None
    created: object = None
    choices: list[_Choice] | None = None


_decode = msgspec.json.Decoder(_Chunk).decode


class CompletionsDecoder(PartDecoder[SseEvent]):
    """Turns the bytes of one stream into deltas; columns of `logprobs` stay as they are."""

    def __init__(self) -> None:
        super().__init__(SseParser())
        self._headed = False

    @override
    def _read(self, part: SseEvent, deltas: list[ChatDelta]) -> bool:
        if part.data.startswith(b"[DONE]"):
            return True
        try:
            chunk = _decode(part.data)
        except UNREADABLE as error:
            raise malformed("The provider's stream holds an event that is not a chunk.") from error
        if not self._headed and isinstance(chunk.id, str) and chunk.id:
            self._headed = True
            created_s = int(chunk.created) if isinstance(chunk.created, int | float) else 0
            deltas.append(ChatDelta(id=chunk.id, model=chunk.model, created_s=created_s))
        for choice in chunk.choices or ():
            deltas += _deltas(choice)
        return False


def _deltas(choice: _Choice) -> list[ChatDelta]:
    index, deltas = choice.index or 0, []
    if choice.delta or choice.message:  # a chat's words: nobody can go on with those here
        return [ChatDelta(choice=index + 1)]
    if choice.text or choice.logprobs:
        columns = (choice.logprobs,) if isinstance(choice.logprobs, dict) else ()
        deltas.append(ChatDelta(choice=index, text=choice.text, logprobs=columns))
    finish = finish_of(choice.finish_reason, has_calls=False)
    if finish is not None:
        deltas.append(ChatDelta(choice=index, finish=finish))
    return deltas
