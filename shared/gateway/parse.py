"""From a caller's bytes to an InferenceRequest, or to a 400 that names the field."""

import re
from collections.abc import Mapping
from typing import Literal, get_args

import msgspec

from shared.errors import InvalidRequest, too_deep
from shared.providers.history import Turn, history_in
from shared.providers.request import InferenceRequest, RequestHead

Role = Literal["system", "developer", "user", "assistant", "tool", "function"]
"""Who may speak, in any served dialect; `function` is OpenAI's old word for a tool."""


class _Message(msgspec.Struct):
    role: Role


class _Turn(Turn, gc=False):
    role: Role


class _PlainChat(RequestHead, frozen=True, kw_only=True, gc=False):
    """A body whose messages are of the common form: one look takes all that is asked of them."""

    messages: list[_Turn]


class _AnyChat(RequestHead, frozen=True, kw_only=True, gc=False):
    messages: msgspec.Raw = msgspec.Raw()


_head = msgspec.json.Decoder(RequestHead)
_plain_chat = msgspec.json.Decoder(_PlainChat)
_any_chat = msgspec.json.Decoder(_AnyChat)
_items = msgspec.json.Decoder(list[msgspec.Raw])
_messages = msgspec.json.Decoder(list[_Message])
_message = msgspec.json.Decoder(_Message)
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_path = re.compile(r"`\$\.?([^`]*)`")
_field = re.compile(r"(?:missing required|contains unknown) field `([^`]+)`")

_SPEECH = "/v1/audio/speech"

LOOKED_AT_BYTES = 64 * 1024
"""Larger bodies are not taken apart here: what a look at their messages leaves stays as long as the
call, and of messages that say nothing it is twenty times their size."""

MAX_MODEL = 256
"""Characters of a model's name: it stands in logs, books and errors."""


class Path(msgspec.Struct, frozen=True, kw_only=True):
    """What is served on one path: in which dialect, and the field it cannot do without.

    `counts`: it only counts tokens; nothing is generated, and there is nothing to do later.
    `form`: the body is no JSON but a form with a file. `later`: it can be a job, whose question and
    answer are JSON. `model` is what a body without a model means, as at OpenAI.
    """

    dialect: str
    needs: Literal["messages", "input", "prompt", "documents", "file"]
    streams: bool = True
    counts: bool = False
    form: bool = False
    later: bool = True
    model: str | None = None


ENDPOINTS: Mapping[str, Path] = {
    "/v1/chat/completions": Path(dialect="openai", needs="messages"),
    "/v1/responses": Path(dialect="openai_responses", needs="input"),
    "/v1/completions": Path(dialect="openai_completions", needs="prompt"),
    "/v1/embeddings": Path(dialect="openai", needs="input", streams=False),
    "/v1/moderations": Path(
        dialect="openai", needs="input", streams=False, model="omni-moderation-latest"
    ),
    "/v1/images/generations": Path(dialect="openai", needs="prompt", model="dall-e-2"),
    "/v1/audio/speech": Path(dialect="openai", needs="input", later=False),
    "/v1/audio/transcriptions": Path(dialect="openai", needs="file", form=True, later=False),
    "/v1/rerank": Path(dialect="openai", needs="documents", streams=False),
    "/v1/messages": Path(dialect="anthropic", needs="messages"),
    "/v1/messages/count_tokens": Path(
        dialect="anthropic", needs="messages", streams=False, counts=True
    ),
}
"""The served inference paths."""

JOB_ENDPOINTS = tuple(
    endpoint for endpoint, path in ENDPOINTS.items() if path.later and not path.counts
)
"""Those whose calls can be jobs."""


def parse_request(endpoint: str, raw: bytes) -> InferenceRequest:
    """Decode the fields that decide; the rest is relayed unread.

    Raises:
        InvalidRequest: not UTF-8, not JSON, nested too deeply, or a field of the wrong type;
            `param` names it where there is one.
    """
    path = ENDPOINTS[endpoint]
    if path.model is not None and b'"model"' not in raw:
        raw = _with_model(raw, path.model)
    head, messages = _decoded(raw, chats=path.needs == "messages")
    check_model(head.model)
    if head.stream and not path.streams:
        raise InvalidRequest(f"{endpoint} does not stream; leave `stream` out.", param="stream")
    count, history = 1, None
    if isinstance(messages, list):
        count, history = _counted(len(messages)), history_in(messages, raw)
    elif messages is not None:
        count = _count_messages(messages)
    elif _kind(getattr(head, path.needs)) not in b'"[':
        raise InvalidRequest(f"`{path.needs}` is required: a text, or a list.", param=path.needs)
    _check_tools(head.tools)
    if endpoint == _SPEECH and head.stream_format == "sse":
        head = msgspec.structs.replace(head, stream=True)
    return InferenceRequest(
        endpoint=endpoint,
        dialect=path.dialect,
        raw=raw,
        head=head,
        message_count=count,
        history=history,
    )


_GZIP = b"\x1f\x8b"


def _decoded(raw: bytes, *, chats: bool) -> tuple[RequestHead, list[_Turn] | msgspec.Raw | None]:
    """Return the head, and of a chat the messages: taken in, or raw where one is out of the way."""
    try:
        raw.decode()
        return _read(raw) if chats else (_head.decode(raw), None)
    except UnicodeDecodeError as error:
        if raw.startswith(_GZIP):
            raise InvalidRequest("The body is compressed; send it as it is.") from error
        raise InvalidRequest(
            f"The body is not UTF-8 (byte {error.start}); send JSON in UTF-8."
        ) from error
    except msgspec.ValidationError as error:
        raise named(error) from error
    except msgspec.DecodeError as error:
        raise InvalidRequest(f"The body is not JSON: {error}") from error
    except RecursionError as error:
        raise too_deep() from error


def _read(raw: bytes) -> tuple[RequestHead, list[_Turn] | msgspec.Raw]:
    if len(raw) <= LOOKED_AT_BYTES:
        try:
            plain = _plain_chat.decode(raw)
        except (ValueError, RecursionError):
            pass  # what is wrong, if anything, is for a longer look
        else:
            return plain, plain.messages
    odd = _any_chat.decode(raw)
    return odd, odd.messages


def _with_model(raw: bytes, model: str) -> bytes:
    """Return an object with the model it means; anything else as it is, to be refused by name."""
    try:
        fields = _fields.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return raw
    return msgspec.json.encode({**fields, "model": model})


def whole(request: InferenceRequest) -> InferenceRequest:
    """Return the same request asked for as a whole answer, as jobs run it."""
    if not request.stream and request.head.stream_options is None:
        return request
    fields = _fields.decode(request.raw)
    fields.pop("stream", None)
    fields.pop("stream_options", None)
    return parse_request(request.endpoint, msgspec.json.encode(fields))


def check_model(model: str) -> None:
    """Return if a model may have this name.

    Raises:
        InvalidRequest: it is empty or too long.
    """
    if not 0 < len(model) <= MAX_MODEL:
        wrong = f"is longer than {MAX_MODEL} characters" if model else "must not be empty"
        raise InvalidRequest(f"`model` {wrong}.", param="model")


def _check_tools(tools: msgspec.Raw) -> None:
    if tools and _kind(tools) not in b"[n":
        raise InvalidRequest("`tools` must be a list.", param="tools")


def _kind(value: msgspec.Raw) -> bytes:
    """Return the first byte of a JSON value, which tells its type; a space when there is none."""
    return bytes(memoryview(value)[:1]) or b" "


def _count_messages(messages: msgspec.Raw) -> int:
    if not messages:
        raise InvalidRequest("`messages` is required: a list of messages.", param="messages")
    try:
        count = len(_messages.decode(messages))
    except msgspec.DecodeError as error:
        raise _bad_messages(messages) from error
    return _counted(count)


def _counted(count: int) -> int:
    if count == 0:
        raise InvalidRequest("`messages` must not be empty.", param="messages")
    return count


def _bad_messages(messages: msgspec.Raw) -> InvalidRequest:
    """Return what is wrong with messages that could not be decoded, the first one by number."""
    if _kind(messages) == b"[":
        for number, item in enumerate(_items.decode(messages)):
            place = f"messages[{number}]"
            if _kind(item) != b"{":
                return InvalidRequest(f"`{place}` must be an object.", param=place)
            try:
                _message.decode(item)
            except msgspec.DecodeError:
                known = ", ".join(get_args(Role))
                return InvalidRequest(
                    f"`{place}.role` must be one of {known}.", param=f"{place}.role"
                )
    return InvalidRequest("`messages` must be a list.", param="messages")


def named(error: msgspec.ValidationError) -> InvalidRequest:
    """Return the error with the field it is about as `param`, dotted when that lies deeper."""
    text = str(error)
    found = [match.group(1) for match in (_path.search(text), _field.search(text)) if match]
    param = ".".join(name for name in found if name)
    return InvalidRequest(text.replace("$.", ""), param=param or None)
