"""From a caller's bytes to an InferenceRequest, or to a 400 that names the field."""

import re
from collections.abc import Mapping

import msgspec

from shared.errors import InvalidRequest
from shared.providers.request import InferenceRequest, RequestHead

_head = msgspec.json.Decoder(RequestHead)
_items = msgspec.json.Decoder(list[msgspec.Raw])
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_path = re.compile(r"`\$\.?([^`]*)`")
_field = re.compile(r"(?:missing required|contains unknown) field `([^`]+)`")

ENDPOINTS: Mapping[str, str] = {
    "/v1/chat/completions": "messages",
    "/v1/embeddings": "input",
}
"""The served inference paths, and the field that each cannot do without."""


def parse_request(endpoint: str, raw: bytes) -> InferenceRequest:
    """Decode the fields that decide; the rest is relayed unread.

    Raises:
        InvalidRequest: not UTF-8, not JSON, nested too deeply, or a field of the wrong type;
            `param` names it where there is one.
    """
    needed = ENDPOINTS[endpoint]
    try:
        raw.decode()
        head = _head.decode(raw)
    except UnicodeDecodeError as error:
        raise InvalidRequest(
            f"The body is not UTF-8 (byte {error.start}); send JSON in UTF-8."
        ) from error
    except msgspec.ValidationError as error:
        raise named(error) from error
    except msgspec.DecodeError as error:
        raise InvalidRequest(f"The body is not JSON: {error}") from error
    except RecursionError as error:
        raise InvalidRequest("The body is nested too deeply.") from error
    if not head.model:
        raise InvalidRequest("`model` must not be empty.", param="model")
    count = 1
    if needed == "messages":
        count = _count_messages(head.messages)
    elif head.stream:
        raise InvalidRequest(f"{endpoint} does not stream; leave `stream` out.", param="stream")
    elif bytes(head.input or b"") in {b"", b"null"}:
        raise InvalidRequest("`input` is required: a text, or a list of texts.", param="input")
    return InferenceRequest(
        endpoint=endpoint, dialect="openai", raw=raw, head=head, message_count=count
    )


def whole(request: InferenceRequest) -> InferenceRequest:
    """Return the same request asked for as a whole answer, as jobs run it."""
    if not request.stream and request.head.stream_options is None:
        return request
    fields = _fields.decode(request.raw)
    fields.pop("stream", None)
    fields.pop("stream_options", None)
    return parse_request(request.endpoint, msgspec.json.encode(fields))


def _count_messages(messages: msgspec.Raw) -> int:
    if not bytes(messages):
        raise InvalidRequest("`messages` is required: a list of messages.", param="messages")
    try:
        count = len(_items.decode(messages))
    except msgspec.DecodeError as error:
        raise InvalidRequest("`messages` must be a list.", param="messages") from error
    if count == 0:
        raise InvalidRequest("`messages` must not be empty.", param="messages")
    return count


def named(error: msgspec.ValidationError) -> InvalidRequest:
    """Return the error with the field it is about as `param`, dotted when that lies deeper."""
    text = str(error)
    found = [match.group(1) for match in (_path.search(text), _field.search(text)) if match]
    param = ".".join(name for name in found if name)
    return InvalidRequest(text.replace("$.", ""), param=param or None)
