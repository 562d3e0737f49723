"""Vectors of texts in no vendor's words: what is asked, what comes back, and OpenAI's form of both.

A provider that speaks another dialect than OpenAI's brings one `EmbeddingTarget`; how a long list
of inputs becomes several calls, and their answers one, is `shared/providers/embedding.py`.
"""

import base64
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import msgspec

from shared.chat.usage import Usage
from shared.errors import FailureKind, InvalidRequest, UnsupportedParameter, UpstreamError
from shared.providers.exchange import HttpResponse
from shared.providers.translation import Built

MAX_INPUTS = 2048
"""Inputs of one request, as OpenAI bounds them."""


class EmbeddingRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Texts to be turned into vectors, one for each, in order.

    `dimensions` is the width asked for, None for the model's own. `extra` keeps fields that have no
    word here (`input_type`, `task_type`, `truncate` …), for providers that know them.
    """

    model: str
    inputs: tuple[str, ...]
    dimensions: int | None = None
    encoding_format: Literal["float", "base64"] = "float"
    user: str | None = None
    extra: Mapping[str, object] = {}


class EmbeddingResponse(msgspec.Struct, frozen=True, kw_only=True):
    """One vector per input, in their order. `usage` is None when the provider counts nothing."""

    vectors: tuple[Sequence[float], ...]
    model: str = ""
    usage: Usage | None = None


class EmbeddingTarget(msgspec.Struct, frozen=True, kw_only=True):
    """A provider's wire format for vectors.

    `most_inputs` is how many texts one of its calls takes. `build` makes the body of a call for at
    most so many; it raises UnsupportedParameter(param="dimensions") where the model has only one
    width, and names in `dropped` what else cannot be asked. `parse` is given the call's own part of
    the inputs; it raises UpstreamError: MALFORMED, or what an error inside a 2xx says. `error_of`
    is given the secret to keep it out.
    """

    name: str
    most_inputs: int
    build: Callable[[EmbeddingRequest], Built]
    parse: Callable[[HttpResponse, EmbeddingRequest], EmbeddingResponse]
    error_of: Callable[[HttpResponse, str | None], UpstreamError]


class _Wire(msgspec.Struct):
    model: str
    input: str | list[str | int | list[int]]
    dimensions: int | None = None
    encoding_format: str | None = None
    user: str | None = None


_KNOWN = frozenset(_Wire.__struct_fields__)
_decode = msgspec.json.Decoder(_Wire).decode
_decode_fields = msgspec.json.Decoder(dict[str, object]).decode


def parse_embedding_request(raw: bytes, *, model: str, name: str) -> EmbeddingRequest:
    """Return what is asked for in OpenAI's words, of the upstream model `model`.

    `name` is the target's, for the errors.

    Raises:
        InvalidRequest: the body is not of that form; `param` names the field.
        UnsupportedParameter: the inputs are token ids, which mean something to OpenAI alone.
    """
    try:
        wire = _decode(raw)
        fields = _decode_fields(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"The body is not an embeddings request: {error}") from error
    if wire.dimensions is not None and wire.dimensions < 1:
        raise InvalidRequest("`dimensions` must be at least 1.", param="dimensions")
    if wire.encoding_format not in {None, "float", "base64"}:
        raise InvalidRequest("`encoding_format` must be float or base64.", param="encoding_format")
    return EmbeddingRequest(
        model=model,
        inputs=_texts(wire.input, name),
        dimensions=wire.dimensions,
        encoding_format="base64" if wire.encoding_format == "base64" else "float",
        user=wire.user,
        extra={key: value for key, value in fields.items() if key not in _KNOWN},
    )


def render_embeddings(answer: EmbeddingResponse, asked: EmbeddingRequest) -> bytes:
    """Return the answer in OpenAI's form, its vectors as floats or base64 of 32-bit floats.

    Raises:
        ValueError: a number does not fit 32 bits.
    """
    turn = packed if asked.encoding_format == "base64" else list
    data = [
        {"object": "embedding", "index": index, "embedding": turn(vector)}
        for index, vector in enumerate(answer.vectors)
    ]
    used = 0 if answer.usage is None else answer.usage.input_tokens
    return msgspec.json.encode({
        "object": "list",
        "data": data,
        "model": answer.model or asked.model,
        "usage": {"prompt_tokens": used, "total_tokens": used},
    })  # fmt: skip


def packed(vector: Sequence[float]) -> str:
    """Return a vector as base64 of little-endian 32-bit floats.

    Raises:
        ValueError: a number does not fit.
    """
    try:
        return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
    except (OverflowError, struct.error) as error:
        raise ValueError("a vector does not fit 32-bit floats") from error


def other_width(width: int) -> UpstreamError:
    """Return the refusal of vectors that are not `width` wide: this model cannot make such."""
    return UpstreamError(
        FailureKind.REJECTED,
        f"This model does not make vectors of {width} dimensions.",
        status=400,
        upstream_code="unsupported_parameter",
        param="dimensions",
        billed=True,
    )


def _texts(given: str | list[str | int | list[int]], name: str) -> tuple[str, ...]:
    items = [given] if isinstance(given, str) else given
    if not items:
        raise InvalidRequest("`input` must not be empty.", param="input")
    if len(items) > MAX_INPUTS:
        raise InvalidRequest(f"`input` holds more than {MAX_INPUTS} texts.", param="input")
    texts = tuple(item for item in items if isinstance(item, str))
    if len(texts) < len(items):
        raise UnsupportedParameter(
            f"{name} embeds texts, not token ids; send `input` as text.", param="input"
        )
    if not all(texts):
        raise InvalidRequest("`input` holds an empty text.", param="input")
    return texts
