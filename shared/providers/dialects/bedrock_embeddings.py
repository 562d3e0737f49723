"""Vectors from Bedrock: Titan's and Cohere's own bodies, sent to a model's `invoke`."""

from collections.abc import Callable
from typing import TypeVar

import msgspec

from shared.chat.usage import Usage
from shared.errors import FailureKind, UnsupportedParameter, UpstreamError
from shared.providers.dialects.bedrock_errors import error_of
from shared.providers.dialects.embeddings import (
    EmbeddingRequest,
    EmbeddingResponse,
    EmbeddingTarget,
)
from shared.providers.exchange import HttpResponse
from shared.providers.translation import Built

Answer = TypeVar("Answer")

INPUT_TOKENS = "x-amzn-bedrock-input-token-count"
_TITAN_WIDTHS = (256, 512, 1024)
_COHERE_WIDTHS = (256, 512, 1024, 1536)
_COHERE_TEXTS = 96


class _TitanAnswer(msgspec.Struct):
    embedding: list[float]
    tokens: int | None = msgspec.field(name="inputTextTokenCount", default=None)


class _Floats(msgspec.Struct):
    float: list[list[float]]


class _CohereAnswer(msgspec.Struct):
    embeddings: _Floats | list[list[float]]


_read_titan = msgspec.json.Decoder(_TitanAnswer).decode
_read_cohere = msgspec.json.Decoder(_CohereAnswer).decode


def target_of(model: str) -> EmbeddingTarget:
    """Return the wire format of an embedding model, by its id.

    Raises:
        UnsupportedParameter: no embedding model that is known here.
    """
    lowered = model.lower()
    if "titan-embed" in lowered:
        return TITAN if "v2" in lowered else TITAN_1
    if "cohere.embed" in lowered:
        return COHERE_4 if "embed-v4" in lowered else COHERE
    raise UnsupportedParameter(f"{model} makes no vectors that we can ask for.", param="model")


def _build_titan(asked: EmbeddingRequest, *, widths: tuple[int, ...]) -> Built:
    _check_width(asked, widths)
    body: dict[str, object] = {"inputText": asked.inputs[0]}
    if asked.dimensions is not None:
        body["dimensions"] = asked.dimensions
    normalize = asked.extra.get("normalize")
    if normalize is not None and widths:
        body["normalize"] = normalize
    return Built(body=body, dropped=_left(asked, body))


def _build_cohere(asked: EmbeddingRequest, *, widths: tuple[int, ...]) -> Built:
    _check_width(asked, widths)
    body: dict[str, object] = {
        "texts": list(asked.inputs),
        # Demanded; what is stored is asked for more often than what searches it.
        "input_type": asked.extra.get("input_type") or "search_document",
        "embedding_types": ["float"],
    }
    if asked.extra.get("truncate") is not None:
        body["truncate"] = asked.extra["truncate"]
    if asked.dimensions is not None:
        body["output_dimension"] = asked.dimensions
    return Built(body=body, dropped=_left(asked, body))


def _parse_titan(response: HttpResponse, _: EmbeddingRequest) -> EmbeddingResponse:
    answer = _read(_read_titan, response.body)
    tokens = answer.tokens if answer.tokens is not None else _counted(response)
    return EmbeddingResponse(vectors=(answer.embedding,), usage=_usage(tokens))


def _parse_cohere(response: HttpResponse, _: EmbeddingRequest) -> EmbeddingResponse:
    found = _read(_read_cohere, response.body).embeddings
    vectors = found.float if isinstance(found, _Floats) else found
    return EmbeddingResponse(vectors=tuple(vectors), usage=_usage(_counted(response)))


def _read(decode: Callable[[bytes], Answer], body: bytes) -> Answer:
    try:
        return decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UpstreamError(
            FailureKind.MALFORMED, "The provider's answer is not the JSON of vectors."
        ) from error


def _check_width(asked: EmbeddingRequest, widths: tuple[int, ...]) -> None:
    if asked.dimensions is not None and asked.dimensions not in widths:
        able = f"can be {', '.join(map(str, widths))} wide" if widths else "have one width only"
        raise UnsupportedParameter(f"Vectors of {asked.model} {able}.", param="dimensions")


def _left(asked: EmbeddingRequest, body: dict[str, object]) -> tuple[str, ...]:
    return tuple(
        name for name, value in asked.extra.items() if value is not None and name not in body
    )


def _counted(response: HttpResponse) -> int | None:
    told = response.headers.get(INPUT_TOKENS, "")
    return int(told) if told.isdecimal() else None


def _usage(tokens: int | None) -> Usage | None:
    return None if tokens is None else Usage(input_tokens=tokens)


def _titan(widths: tuple[int, ...]) -> EmbeddingTarget:
    return EmbeddingTarget(
        name="titan",
        most_inputs=1,
        build=lambda asked: _build_titan(asked, widths=widths),
        parse=_parse_titan,
        error_of=error_of,
    )


def _cohere(widths: tuple[int, ...]) -> EmbeddingTarget:
    return EmbeddingTarget(
        name="cohere on bedrock",
        most_inputs=_COHERE_TEXTS,
        build=lambda asked: _build_cohere(asked, widths=widths),
        parse=_parse_cohere,
        error_of=error_of,
    )


TITAN_1, TITAN = _titan(()), _titan(_TITAN_WIDTHS)
COHERE, COHERE_4 = _cohere(()), _cohere(_COHERE_WIDTHS)
