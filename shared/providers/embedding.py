"""Asking a provider with a dialect of its own for vectors, in as many calls as it needs."""

from collections.abc import Callable, Mapping, Sequence

import msgspec
from typing_extensions import override

from shared.chat.usage import Usage
from shared.errors import FailureKind, OwnFault, UpstreamError
from shared.providers.dialects.embeddings import (
    EmbeddingRequest,
    EmbeddingResponse,
    EmbeddingTarget,
    other_width,
    parse_embedding_request,
    render_embeddings,
)
from shared.providers.exchange import HttpRequest, HttpResponse, Reply, StreamScanner
from shared.providers.fanned import FannedExchange
from shared.providers.head import refuse_body
from shared.providers.hiding import without_secret
from shared.providers.request import InferenceRequest
from shared.providers.target import Target
from shared.providers.translation import refuse_dropped, with_params

EMBEDDINGS_PATH = "/v1/embeddings"


class EmbeddingExchange(FannedExchange):
    """One attempt for vectors: a call for every `most_inputs` texts, one answer."""

    def __init__(
        self,
        *,
        requests: Sequence[HttpRequest],
        parts: Sequence[EmbeddingRequest],
        asked: EmbeddingRequest,
        wire: EmbeddingTarget,
        dropped: tuple[str, ...] = (),
        secret: str | None = None,
    ) -> None:
        self.requests = tuple(requests)
        self.request = self.requests[0]
        self.dropped = dropped
        self._parts = parts
        self._asked = asked
        self._wire = wire
        self._secret = secret

    def read(self, response: HttpResponse) -> Reply:
        """Turn a 2xx answer to the only call into OpenAI's form."""
        return self.read_all([response])

    @override
    def read_all(self, responses: Sequence[HttpResponse]) -> Reply:
        """Join the answers, vectors in the order of the inputs.

        Raises:
            UpstreamError: MALFORMED when one is not an answer or has another number of vectors
                than its call had texts; REJECTED when they are of another width than was asked.
        """
        answers = [
            self._part(response, part)
            for response, part in zip(responses, self._parts, strict=True)
        ]
        whole = EmbeddingResponse(
            vectors=tuple(vector for answer in answers for vector in answer.vectors),
            model=answers[0].model,
            usage=_sum([answer.usage for answer in answers]),
        )
        try:
            body = render_embeddings(whole, self._asked)
        except ValueError as error:
            raise _malformed(f"The provider's vectors cannot be read: {error}.") from error
        return Reply(body=body, model=whole.model or None, usage=whole.usage)

    def error_of(self, response: HttpResponse) -> UpstreamError:
        """Turn any other answer into a failure."""
        return self._wire.error_of(response, self._secret)

    def refuse_head(self, status: int, headers: Mapping[str, str]) -> UpstreamError | None:  # noqa: ARG002
        """Refuse every stream: vectors come whole."""
        return _malformed("Vectors do not come as a stream.")

    def scanner(self) -> StreamScanner:
        """Raise: vectors come whole."""
        raise OwnFault("Vectors do not come as a stream.")

    def _part(self, response: HttpResponse, part: EmbeddingRequest) -> EmbeddingResponse:
        refused = refuse_body(response.headers)
        if refused is not None:
            raise refused
        try:
            answer = self._wire.parse(response, part)
        except UpstreamError as error:
            raise without_secret(error, self._secret) from None
        if len(answer.vectors) != len(part.inputs):
            raise _malformed(
                f"The provider sent {len(answer.vectors)} vectors for {len(part.inputs)} texts."
            )
        width = self._asked.dimensions
        if width is not None and any(len(vector) != width for vector in answer.vectors):
            raise other_width(width)
        return answer


def embedding_exchange(
    request: InferenceRequest,
    target: Target,
    wire: EmbeddingTarget,
    http: Callable[[bytes, Mapping[str, str]], HttpRequest],
    *,
    params: Sequence[Mapping[str, object]] = (),
    secret: str | None = None,
) -> EmbeddingExchange:
    """Return one attempt against a provider with its own words for vectors.

    `http` makes the HTTP request of a body and its extra headers. `params` are the operator's, the
    provider's before the target's; they fill in what the caller left out.

    Raises:
        InvalidRequest: the body is not an embeddings request; `param` names the field.
        UnsupportedParameter: token ids, a width that the model does not have, or a parameter that
            the route does not let it drop.
    """
    asked = parse_embedding_request(request.raw, model=target.model, name=target.name)
    step = wire.most_inputs
    parts = [
        msgspec.structs.replace(asked, inputs=asked.inputs[start : start + step])
        for start in range(0, len(asked.inputs), step)
    ]
    built = [wire.build(part) for part in parts]
    refuse_dropped(built[0].dropped, target)
    requests = [
        http(msgspec.json.encode(with_params(one.body, *params)), one.headers) for one in built
    ]
    return EmbeddingExchange(
        requests=requests,
        parts=parts,
        asked=asked,
        wire=wire,
        dropped=built[0].dropped,
        secret=secret,
    )


def _sum(counts: Sequence[Usage | None]) -> Usage | None:
    """Return the usage of all calls together, None when one of them was not counted."""
    known = [usage for usage in counts if usage is not None]
    if len(known) < len(counts):
        return None
    return Usage(input_tokens=sum(usage.input_tokens for usage in known))


def _malformed(message: str) -> UpstreamError:
    return UpstreamError(FailureKind.MALFORMED, message)
