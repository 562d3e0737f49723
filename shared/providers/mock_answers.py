"""What the mock says: pure functions from a request to OpenAI's bodies."""

import base64
import hashlib
import math
import struct
from collections.abc import Iterator
from typing import Annotated

import msgspec
from msgspec import Meta

from shared.providers.mock_schema import instance_of

CREATED = 1_700_000_000
"""Every answer's `created`: the same call gives the same bytes."""
DIMENSIONS = 8
MOST_CHOICES = 128
"""As with OpenAI. Without bounds one call could hold the process for minutes."""
MOST_DIMENSIONS = 4096
MOST_TOKENS = 100_000
_SENTENCE = "the sluice opens and the water finds its way through the wheel to the river below"
_WORDS = _SENTENCE.split()


class MockMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message of the request, as far as the mock reads it."""

    role: str
    content: object = None

    @property
    def text(self) -> str:
        """The text, parts joined by spaces."""
        if isinstance(self.content, str):
            return self.content
        parts = self.content if isinstance(self.content, list) else []
        texts = [part.get("text") for part in parts if isinstance(part, dict)]
        return " ".join(text for text in texts if isinstance(text, str))


class MockFunction(msgspec.Struct, frozen=True, kw_only=True):
    """A declared function."""

    name: str
    parameters: object = None


class MockTool(msgspec.Struct, frozen=True, kw_only=True):
    """A declared tool; custom tools are never called."""

    function: MockFunction | None = None


class MockStreamOptions(msgspec.Struct, frozen=True, kw_only=True):
    """OpenAI's `stream_options`."""

    include_usage: bool | None = None


class MockRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request body, as far as the mock reads it."""

    model: str = "mock"
    messages: tuple[MockMessage, ...] = ()
    prompt: object = ""
    input: object = ""
    tools: tuple[MockTool, ...] | None = None
    tool_choice: object = None
    response_format: object = None
    n: Annotated[int, Meta(ge=1, le=MOST_CHOICES)] | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stream: bool | None = None
    stream_options: MockStreamOptions | None = None
    dimensions: Annotated[int, Meta(ge=1, le=MOST_DIMENSIONS)] | None = None
    encoding_format: str | None = None

    @property
    def limit_tokens(self) -> int | None:
        """The caller's bound on output."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def last(self) -> MockMessage:
        """The last message, or an empty user message."""
        return self.messages[-1] if self.messages else MockMessage(role="user")


class MockAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What one choice says."""

    words: tuple[str, ...]
    finish_reason: str
    tool: MockFunction | None = None

    @property
    def arguments(self) -> str:
        """The tool's arguments as JSON text."""
        schema = {} if self.tool is None else self.tool.parameters
        return msgspec.json.encode(instance_of(schema or {"type": "object"})).decode()

    @property
    def tokens(self) -> int:
        """The words said, or the words of a tool call."""
        return len(self.words) if self.tool is None else 1 + len(self.arguments.split())


def answer_of(
    request: MockRequest,
    *,
    legacy: bool = False,
    text: str | None = None,
    tokens: int | None = None,
) -> bytes:
    """Return a whole answer; `legacy` is that of `/v1/completions`."""
    answer = _decide(request, text=text, tokens=tokens)
    count = request.n or 1
    choices = [_choice(request, answer, index, legacy=legacy) for index in range(count)]
    return msgspec.json.encode(
        {
            "id": _id(request),
            "object": "text_completion" if legacy else "chat.completion",
            "created": CREATED,
            "model": request.model,
            "choices": choices,
            "usage": _usage(request, answer.tokens * count),
        }
    )


def chunks_of(
    request: MockRequest,
    *,
    legacy: bool = False,
    text: str | None = None,
    tokens: int | None = None,
) -> list[bytes]:
    """Return the answer's stream, one event per chunk: role, word by word, finish, usage, end."""
    answer = _decide(request, text=text, tokens=tokens)
    count = request.n or 1
    asked = request.stream_options is not None and bool(request.stream_options.include_usage)
    head = {
        "id": _id(request),
        "object": "text_completion" if legacy else "chat.completion.chunk",
        "created": CREATED,
        "model": request.model,
    }
    events: list[object] = [
        {**head, "choices": [choice], **({"usage": None} if asked else {})}
        for index in range(count)
        for choice in _deltas(request, answer, index, legacy=legacy)
    ]
    if asked:
        events.append({**head, "choices": [], "usage": _usage(request, answer.tokens * count)})
    return [*(b"data: " + msgspec.json.encode(e) + b"\n\n" for e in events), b"data: [DONE]\n\n"]


def embeddings_of(request: MockRequest) -> bytes:
    """Return one vector of length 1 per input, the same for the same text."""
    texts = request.input if isinstance(request.input, list) else [request.input]
    if texts and all(isinstance(text, int) for text in texts):
        texts = [texts]
    dimensions = request.dimensions or DIMENSIONS
    vectors = [vector_of(_text_of(text), dimensions) for text in texts]
    as_text = request.encoding_format == "base64"
    rows = [
        {
            "object": "embedding",
            "index": index,
            "embedding": (
                base64.b64encode(struct.pack(f"<{dimensions}f", *vector)).decode()
                if as_text
                else vector
            ),
        }
        for index, vector in enumerate(vectors)
    ]
    used = sum(len(_text_of(text).split()) for text in texts)
    usage = {"prompt_tokens": used, "total_tokens": used}
    return msgspec.json.encode(
        {"object": "list", "data": rows, "model": request.model, "usage": usage}
    )


def vector_of(text: str, dimensions: int) -> list[float]:
    """Return a unit vector that depends on nothing but the text; exact in 32-bit floats."""
    raw = hashlib.shake_256(text.encode()).digest(dimensions * 2)
    whole = [value - 32_767.5 for value in struct.unpack(f"<{dimensions}H", raw)]
    length = math.sqrt(sum(value * value for value in whole))
    scaled = struct.pack(f"<{dimensions}f", *(value / length for value in whole))
    return list(struct.unpack(f"<{dimensions}f", scaled))


def _decide(request: MockRequest, *, text: str | None, tokens: int | None) -> MockAnswer:
    tool = None if text is not None else _tool(request)
    if tool is not None:
        forced = isinstance(request.tool_choice, dict)
        return MockAnswer(words=(), finish_reason="stop" if forced else "tool_calls", tool=tool)
    said = _text(request) if text is None else text
    words = tuple(_filler(tokens)) if tokens is not None else _split(said)
    limit = request.limit_tokens
    if limit is not None and limit < len(words):
        return MockAnswer(words=words[:limit], finish_reason="length")
    return MockAnswer(words=words, finish_reason="stop")


def _tool(request: MockRequest) -> MockFunction | None:
    functions = [tool.function for tool in request.tools or () if tool.function is not None]
    if not functions or request.tool_choice == "none":
        return None
    if isinstance(request.tool_choice, dict):
        wanted = request.tool_choice.get("function")
        named = wanted.get("name") if isinstance(wanted, dict) else None
        return next((f for f in functions if f.name == named), functions[0])
    if request.tool_choice == "required":
        return functions[0]
    if request.last.role != "user":
        return None
    said = request.last.text
    return next((f for f in functions if f"call {f.name}" in said), None)


def _text(request: MockRequest) -> str:
    wanted = request.response_format
    if isinstance(wanted, dict) and wanted.get("type") == "json_schema":
        described = wanted.get("json_schema")
        schema = described.get("schema") if isinstance(described, dict) else None
        return msgspec.json.encode(instance_of(schema)).decode()
    said = request.last.text or _text_of(request.prompt)
    if isinstance(wanted, dict) and wanted.get("type") == "json_object":
        return msgspec.json.encode({"echo": said}).decode()
    return f"You said: {said}" if said else "You said nothing."


def _deltas(
    request: MockRequest, answer: MockAnswer, index: int, *, legacy: bool
) -> Iterator[dict[str, object]]:
    end = {"index": index, "finish_reason": answer.finish_reason, "logprobs": None}
    if legacy:
        for word in answer.words:
            yield {"index": index, "text": word, "logprobs": None, "finish_reason": None}
        yield {**end, "text": ""}
        return
    opening: dict[str, object] = {"role": "assistant", "content": "", "refusal": None}
    deltas = [opening, *({"content": word} for word in answer.words)]
    if answer.tool is not None:
        call = {"id": _call_id(request), "type": "function"}
        named = {"name": answer.tool.name, "arguments": ""}
        deltas = [
            {**opening, "content": None, "tool_calls": [{"index": 0, **call, "function": named}]}
        ]
        deltas += [
            {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}
            for piece in _split(answer.arguments)
        ]
    for delta in deltas:
        yield {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
    yield {**end, "delta": {}}


def _choice(
    request: MockRequest, answer: MockAnswer, index: int, *, legacy: bool
) -> dict[str, object]:
    end = {"index": index, "finish_reason": answer.finish_reason, "logprobs": None}
    text = "".join(answer.words)
    if legacy:
        return {**end, "text": text}
    message: dict[str, object] = {"role": "assistant", "content": text, "refusal": None}
    if answer.tool is not None:
        named = {"name": answer.tool.name, "arguments": answer.arguments}
        call = {"id": _call_id(request), "type": "function", "function": named}
        message |= {"content": None, "tool_calls": [call]}
    return {**end, "message": message}


def _usage(request: MockRequest, completion: int) -> dict[str, object]:
    texts = [message.text for message in request.messages] or [_text_of(request.prompt)]
    prompt = sum(len(text.split()) for text in texts) + 3 * len(request.messages)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


def _split(text: str) -> tuple[str, ...]:
    """Return the words, each with the space before it; joined they are the text."""
    words = text.split(" ")
    return (words[0], *(f" {word}" for word in words[1:]))


def _filler(count: int) -> Iterator[str]:
    for number in range(count):
        word = _WORDS[number % len(_WORDS)]
        yield f" {word}" if number else word


def _text_of(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _id(request: MockRequest) -> str:
    return f"chatcmpl-mock-{_fingerprint(request)}"


def _call_id(request: MockRequest) -> str:
    return f"call_mock_{_fingerprint(request)}"


def _fingerprint(request: MockRequest) -> str:
    said = (request.model, [(m.role, m.text) for m in request.messages], request.prompt)
    return hashlib.sha256(msgspec.json.encode(said)).hexdigest()[:16]
