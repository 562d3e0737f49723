"""Vectors from Google: the Developer API's batches, Vertex's predictions and single contents.

`task_type` (also Cohere's `input_type` for queries and documents) and `title` are passed on. A
vector below its model's full width is not of length 1, whoever needs that must see to it.
"""

import re
from collections.abc import Sequence

import msgspec

from shared.chat.usage import Usage
from shared.errors import FailureKind, UnsupportedParameter, UpstreamError
from shared.providers.dialects.embeddings import (
    EmbeddingRequest,
    EmbeddingResponse,
    EmbeddingTarget,
)
from shared.providers.dialects.gemini_errors import error_inside, error_of
from shared.providers.dialects.gemini_wire import UNREADABLE, UsageMetadata, leniently
from shared.providers.exchange import HttpResponse
from shared.providers.translation import Built

BATCH = 100
"""Most texts of one `batchEmbedContents`; Vertex's older models take as many."""

_ONE_WIDTH = re.compile(r"(^|/)(embedding-\d|textembedding-gecko)")
_TASKS = {
    "search_query": "RETRIEVAL_QUERY",
    "search_document": "RETRIEVAL_DOCUMENT",
    "classification": "CLASSIFICATION",
    "clustering": "CLUSTERING",
}
_WORDS = frozenset({"task_type", "taskType", "input_type", "title"})


class _Vector(msgspec.Struct):
    values: list[float]


class _Statistics(msgspec.Struct, frozen=True):
    token_count: float = 0


class _Predicted(msgspec.Struct):
    values: list[float]
    statistics: _Statistics = _Statistics()


class _Prediction(msgspec.Struct):
    embeddings: _Predicted


class _Answer(msgspec.Struct, rename="camel"):
    embeddings: list[_Vector] | None = None
    embedding: _Vector | None = None
    predictions: list[_Prediction] | None = None
    usage_metadata: UsageMetadata | None = None
    error: object = None


_decode = leniently(msgspec.json.Decoder(_Answer).decode)


def embedding_method(model: str, *, vertex: bool) -> str:
    """Return the method that gives this model's vectors."""
    if not vertex:
        return "batchEmbedContents"
    return "embedContent" if _is_single(model) else "predict"


def embedding_target(model: str, *, vertex: bool) -> EmbeddingTarget:
    """Return how this model is asked for vectors."""
    if not vertex:
        most_inputs, build = BATCH, _build_batch
    elif _is_single(model):
        most_inputs, build = 1, _build_single
    else:
        most_inputs, build = 1 if "gemini-embedding" in model else BATCH, _build_prediction
    return EmbeddingTarget(
        name="gemini", most_inputs=most_inputs, build=build, parse=_parse, error_of=error_of
    )


def _is_single(model: str) -> bool:
    return "gemini-embedding" in model and not model.endswith("gemini-embedding-001")


def _build_batch(asked: EmbeddingRequest) -> Built:
    name = asked.model if "/" in asked.model else f"models/{asked.model}"
    options = _options(asked)
    requests = [{"model": name, **_content(text), **options} for text in asked.inputs]
    return Built(body={"requests": requests}, dropped=_dropped(asked))


def _build_single(asked: EmbeddingRequest) -> Built:
    (text,) = asked.inputs
    return Built(body={**_content(text), **_options(asked)}, dropped=_dropped(asked))


def _build_prediction(asked: EmbeddingRequest) -> Built:
    options = _options(asked)
    width = options.pop("outputDimensionality", None)
    named = {"taskType": "task_type"}
    own = {named.get(word, word): value for word, value in options.items()}
    body: dict[str, object] = {"instances": [{"content": text, **own} for text in asked.inputs]}
    if width is not None:
        body["parameters"] = {"outputDimensionality": width}
    return Built(body=body, dropped=_dropped(asked))


def _content(text: str) -> dict[str, object]:
    return {"content": {"parts": [{"text": text}]}}


def _options(asked: EmbeddingRequest) -> dict[str, object]:
    options: dict[str, object] = {}
    task = asked.extra.get("task_type") or asked.extra.get("taskType")
    task = task or _TASKS.get(str(asked.extra.get("input_type")))
    if task:
        options["taskType"] = task
    if asked.extra.get("title"):
        options["title"] = asked.extra["title"]
    if asked.dimensions is not None:
        if _ONE_WIDTH.search(asked.model):
            raise UnsupportedParameter(
                f"{asked.model} has vectors of one width only.", param="dimensions"
            )
        options["outputDimensionality"] = asked.dimensions
    return options


def _dropped(asked: EmbeddingRequest) -> tuple[str, ...]:
    return tuple(name for name in asked.extra if name not in _WORDS)


def _parse(response: HttpResponse, _asked: EmbeddingRequest) -> EmbeddingResponse:
    try:
        answer = _decode(response.body)
    except UNREADABLE as error:
        raise UpstreamError(
            FailureKind.MALFORMED, "The provider's answer is not the JSON of vectors."
        ) from error
    if answer.error:
        raise error_inside(answer.error)
    found = answer.embeddings or ([] if answer.embedding is None else [answer.embedding])
    if answer.predictions is not None:
        return _predicted(answer.predictions)
    return EmbeddingResponse(
        vectors=tuple(one.values for one in found), usage=_usage(answer.usage_metadata)
    )


def _predicted(predictions: Sequence[_Prediction]) -> EmbeddingResponse:
    tokens = sum(int(one.embeddings.statistics.token_count) for one in predictions)
    return EmbeddingResponse(
        vectors=tuple(one.embeddings.values for one in predictions),
        usage=Usage(input_tokens=tokens) if tokens else None,
    )


def _usage(wire: UsageMetadata | None) -> Usage | None:
    """Return the counts; the Developer API mostly gives none."""
    if wire is None or not wire.prompt_token_count:
        return None
    return Usage(input_tokens=wire.prompt_token_count)
