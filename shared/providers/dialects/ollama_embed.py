"""Ollama's native vectors, `POST /api/embed`."""

from typing import Any

import msgspec

from shared.chat.usage import Usage
from shared.errors import FailureKind, UpstreamError
from shared.providers.dialects.counts import count_of
from shared.providers.dialects.embeddings import (
    MAX_INPUTS,
    EmbeddingRequest,
    EmbeddingResponse,
    EmbeddingTarget,
)
from shared.providers.dialects.ollama import placed
from shared.providers.dialects.openai_errors import body_of, error_inside, error_of
from shared.providers.exchange import HttpResponse
from shared.providers.translation import Built


class _Answer(msgspec.Struct):
    model: str = ""
    embeddings: list[list[float]] | None = None
    prompt_eval_count: Any = None
    error: Any = None


_decode = msgspec.json.Decoder(_Answer).decode


def build(asked: EmbeddingRequest) -> Built:
    """Return the body; a model that cannot be cut to the width asked for shows in its answer."""
    known, unknown = placed(asked.extra)
    body: dict[str, object] = {**known, "model": asked.model, "input": list(asked.inputs)}
    if asked.dimensions is not None:
        body["dimensions"] = asked.dimensions
    return Built(body=body, dropped=unknown)


def parse(response: HttpResponse, _asked: EmbeddingRequest) -> EmbeddingResponse:
    """Return the vectors.

    Raises:
        UpstreamError: MALFORMED, or what an `error` inside says.
    """
    try:
        answer = _decode(response.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UpstreamError(
            FailureKind.MALFORMED, "The provider's answer holds no vectors."
        ) from error
    if answer.error:
        raise error_inside(body_of(answer.error))
    counted = count_of(answer.prompt_eval_count)
    return EmbeddingResponse(
        vectors=tuple(answer.embeddings or ()),
        model=answer.model,
        usage=None if counted is None else Usage(input_tokens=counted),
    )


OLLAMA_EMBED = EmbeddingTarget(
    name="ollama",
    most_inputs=MAX_INPUTS,
    build=build,
    parse=parse,
    error_of=lambda response, secret: error_of(response, secret=secret),
)
