"""One answer in both forms: a stream folded into the whole that is kept, and told again from it."""

from collections.abc import Callable, Iterator, Mapping

import msgspec

from shared.chat.request import ChatRequest
from shared.chat.response import ChatDelta, ChatResponse, Folding
from shared.chat.unfold import unfold
from shared.chat.usage import Usage
from shared.errors import UpstreamError
from shared.providers.dialects import anthropic_read
from shared.providers.dialects.anthropic_stream import AnthropicDecoder
from shared.providers.dialects.openai_chat import OpenAIDecoder, parse_response
from shared.providers.request import InferenceRequest
from shared.providers.served import SERVED
from shared.providers.translation import Asked, ServedDialect, StreamDecoder

FREE = "0"
"""What an answer costs that is given again, in USD."""

DECODE_BYTES = 16 * 1024
"""A stream is read in portions of this: never long at a time, and never much kept as it came."""


class Form(msgspec.Struct, frozen=True, kw_only=True):
    """How a dialect that we serve is read again.

    `ordered`: its blocks stand in an order of their own, which the canonical answer does not know.
    """

    read: Callable[[bytes], ChatResponse]
    decoder: Callable[[], StreamDecoder]
    ordered: bool = False


FORMS: Mapping[str, Form] = {
    "/v1/chat/completions": Form(read=parse_response, decoder=OpenAIDecoder),
    "/v1/messages": Form(
        read=lambda body: anthropic_read.parse_response(body, Asked()),
        decoder=lambda: AnthropicDecoder(Asked()),
        ordered=True,
    ),
}
"""By endpoint; elsewhere answers are kept and given only whole."""


def told_again(request: InferenceRequest, body: bytes) -> Iterator[bytes] | None:
    """Return a whole answer as the stream that was asked for; None where it cannot be told so."""
    form, served = FORMS[request.endpoint], SERVED[request.endpoint]
    try:
        answer = form.read(body)
    except UpstreamError:
        return None
    chat = _question(request)
    if form.ordered and not _is_kept(body, served.render_response(answer, chat)):
        return None
    return _pieces(answer, served, chat)


class Recording:
    """Folds a stream that goes by into the whole answer, as its caller would have been given it."""

    def __init__(self, request: InferenceRequest, *, most_bytes: int) -> None:
        self._request = request
        self._most_bytes = most_bytes
        self._form = FORMS[request.endpoint]
        self._decoder = self._form.decoder()
        self._folding = Folding()
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._bytes = 0
        self._fails = False
        self._rank = 0

    def add(self, piece: bytes) -> None:
        """Take the next bytes."""
        if self._fails:
            return
        self._waiting.append(piece)
        self._waiting_bytes += len(piece)
        if self._waiting_bytes >= DECODE_BYTES:
            self._decode()

    def body(self, usage: Usage | None) -> bytes | None:
        """Return the whole answer after the last bytes, None if it is none.

        `usage` is what the provider told, for a stream that did not go on to tell its caller.
        """
        self._decode()
        answer = self._folding.result()
        whole = answer.choices and all(choice.finish is not None for choice in answer.choices)
        if self._fails or not whole or (self._form.ordered and answer.extra):
            return None
        answer = msgspec.structs.replace(answer, usage=answer.usage or usage)
        served = SERVED[self._request.endpoint]
        return served.render_response(answer, _question(self._request))

    def _decode(self) -> None:
        self._bytes += self._waiting_bytes
        self._fails = self._fails or self._bytes > self._most_bytes
        waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
        if self._fails or not waiting:
            return
        decoded = self._decoder.feed(b"".join(waiting))
        self._fails = decoded.error is not None
        for delta in decoded.deltas:
            self._folding.add(delta)
            if self._form.ordered:
                self._follow(delta)

    def _follow(self, delta: ChatDelta) -> None:
        """Fail where blocks come in another order than the one that they would be shown in."""
        rank = _rank(delta)
        if rank is not None:
            self._fails = self._fails or rank < self._rank
            self._rank = rank


def _rank(delta: ChatDelta) -> int | None:
    if delta.reasoning is not None:
        return 0
    if delta.text:
        return 1
    return 2 if delta.tool is not None else None


def _pieces(answer: ChatResponse, served: ServedDialect, chat: ChatRequest) -> Iterator[bytes]:
    renderer = served.renderer(chat)
    for delta in unfold(answer):
        if piece := renderer.render([delta]):
            yield piece
    yield renderer.closing(answer.usage, FREE)


def _question(request: InferenceRequest) -> ChatRequest:
    """Return as much of the question as answers are shown by."""
    return ChatRequest(
        model=request.head.model,
        messages=(),
        stream=request.stream,
        include_usage=request.include_usage,
        dialect=request.dialect,
    )


class _Blocks(msgspec.Struct):
    content: list[dict[str, object]] = []


_decode_blocks = msgspec.json.Decoder(_Blocks).decode


def _is_kept(body: bytes, rendered: bytes) -> bool:
    """Return whether an answer of blocks has the same ones after it was read and written again."""
    return _blocks(body) == _blocks(rendered)


def _blocks(body: bytes) -> list[dict[str, object]]:
    blocks = _decode_blocks(body).content
    return [{name: value for name, value in block.items() if value is not None} for block in blocks]
