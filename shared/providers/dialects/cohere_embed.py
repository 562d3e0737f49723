"""Cohere's vectors, `POST /v2/embed`, and its reranking, `POST /v2/rerank`."""

from collections.abc import Mapping
from typing import Any

import msgspec

from shared.chat.usage import Usage
from shared.errors import FailureKind, InvalidRequest, UpstreamError
from shared.providers.dialects.cohere_answer import UNREADABLE, error_of
from shared.providers.dialects.counts import count_of
from shared.providers.dialects.embeddings import (
    EmbeddingRequest,
    EmbeddingResponse,
    EmbeddingTarget,
)
from shared.providers.exchange import HttpResponse
from shared.providers.translation import Built

MOST_TEXTS = 96
_OWN = frozenset({"input_type", "truncate", "max_tokens", "priority"})


class _Floats(msgspec.Struct):
    vectors: list[list[float]] = msgspec.field(name="float")


class _Billed(msgspec.Struct):
    input_tokens: Any = None


class _Meta(msgspec.Struct):
    billed_units: _Billed | None = None


class _Vectors(msgspec.Struct):
    embeddings: _Floats
    meta: _Meta | None = None


_decode = msgspec.json.Decoder(_Vectors).decode
_decode_object = msgspec.json.Decoder(dict[str, Any]).decode


def build(asked: EmbeddingRequest) -> Built:
    """Return the body. Cohere wants to know what for: to be searched, unless the caller says so."""
    own = {name: value for name, value in asked.extra.items() if name in _OWN}
    body: dict[str, object] = {
        "model": asked.model,
        "texts": list(asked.inputs),
        "input_type": "search_document",
        "embedding_types": ["float"],
        **own,
    }
    if asked.dimensions is not None:
        body["output_dimension"] = asked.dimensions
    return Built(body=body, dropped=tuple(name for name in asked.extra if name not in _OWN))


def parse(response: HttpResponse, asked: EmbeddingRequest) -> EmbeddingResponse:
    """Return the vectors.

    Raises:
        UpstreamError: MALFORMED.
    """
    try:
        answer = _decode(response.body)
    except UNREADABLE as error:
        raise _malformed("The provider's answer holds no vectors.") from error
    billed = None if answer.meta is None else answer.meta.billed_units
    counted = None if billed is None else count_of(billed.input_tokens)
    return EmbeddingResponse(
        vectors=tuple(answer.embeddings.vectors),
        model=asked.model,
        usage=None if counted is None else Usage(input_tokens=counted),
    )


COHERE_EMBED = EmbeddingTarget(
    name="cohere", most_inputs=MOST_TEXTS, build=build, parse=parse, error_of=error_of
)


class Reranking(msgspec.Struct, frozen=True, kw_only=True):
    """A question for `/v2/rerank`. `documents` are repeated in the answer where that was asked."""

    body: dict[str, object]
    documents: tuple[str, ...] = ()


def build_reranking(raw: bytes, *, model: str, params: Mapping[str, object]) -> Reranking:
    """Return the question; documents that are objects go as their `text`.

    Raises:
        InvalidRequest: the body is not of that form; `param` names the field.
    """
    try:
        fields = {**params, **_decode_object(raw)}
    except UNREADABLE as error:
        raise InvalidRequest(f"The body is not a reranking request: {error}") from error
    documents = fields.get("documents")
    texts = [_document(one) for one in documents] if isinstance(documents, list) else []
    if not texts:
        raise InvalidRequest("`documents` must be a list of texts.", param="documents")
    repeated = bool(fields.pop("return_documents", False))
    body = {**fields, "model": model, "documents": texts}
    return Reranking(body=body, documents=tuple(texts) if repeated else ())


def with_documents(raw: bytes, documents: tuple[str, ...]) -> bytes:
    """Return the answer with the text of each result, as the first version of the API gave it.

    Raises:
        UpstreamError: MALFORMED, it is not an answer.
    """
    try:
        answer = _decode_object(raw)
        for result in answer["results"]:
            result["document"] = {"text": documents[result["index"]]}
    except (*UNREADABLE, LookupError, TypeError) as error:
        raise _malformed("The provider's answer is not a ranking.") from error
    return msgspec.json.encode(answer)


def _document(given: object) -> str:
    if isinstance(given, dict):
        given = given.get("text")
    if not isinstance(given, str):
        raise InvalidRequest("A document is neither a text nor has one.", param="documents")
    return given


def _malformed(message: str) -> UpstreamError:
    return UpstreamError(FailureKind.MALFORMED, message)
