"""Cohere by its native surface, or by its compatible one where `base_url` says so.

The native one has thoughts, plans, citations, and counts what it bills. `base_url` is the host's
root; one that ends in `/compatibility/v1` is asked in OpenAI's words.
"""

import msgspec
from typing_extensions import override

from shared.config.model import ProviderConfig
from shared.providers.adapter import Adapter
from shared.providers.dialects.cohere import build_request
from shared.providers.dialects.cohere_answer import COHERE
from shared.providers.dialects.cohere_embed import (
    COHERE_EMBED,
    build_reranking,
    with_documents,
)
from shared.providers.dialects.openai_draft import drops
from shared.providers.dialects.openai_models import IMITATOR
from shared.providers.dialects.passed import RERANK, PassedExchange
from shared.providers.embedding import EMBEDDINGS_PATH, embedding_exchange
from shared.providers.exchange import Exchange, HttpRequest, HttpResponse, Reply
from shared.providers.headers import EVENTS, bearer, call_headers
from shared.providers.relay import CHAT_ONLY, Vendor, relay
from shared.providers.request import InferenceRequest
from shared.providers.served import chat_of
from shared.providers.target import Target
from shared.providers.translation import TranslatingExchange, refuse_dropped, with_params

DEFAULT_BASE_URL = "https://api.cohere.com"
_COMPATIBLE = Vendor(
    kind="cohere",
    endpoints=CHAT_ONLY | {EMBEDDINGS_PATH},
    steps=(*IMITATOR, drops("n", "logit_bias", "parallel_tool_calls", "top_k")),
)


class RankingExchange(PassedExchange):
    """A reranking whose answer may repeat the documents, which the provider no longer does."""

    documents: tuple[str, ...] = ()

    @override
    def read(self, response: HttpResponse) -> Reply:
        """Return the ranking, with the documents where they were asked for."""
        reply = super().read(response)
        if not self.documents:
            return reply
        return msgspec.structs.replace(reply, body=with_documents(reply.body, self.documents))


class CohereAdapter(Adapter):
    """Asks Cohere's platform, or a deployment of one's own."""

    kind = "cohere"

    @override
    def exchange(
        self,
        provider: ProviderConfig,
        secret: str | None,
        request: InferenceRequest,
        target: Target,
    ) -> Exchange:
        """Return the conversation for chat, vectors or a ranking."""
        root = (provider.base_url or DEFAULT_BASE_URL).rstrip("/")
        if root.endswith("/compatibility/v1") and request.endpoint != RERANK:
            return relay(
                _COMPATIBLE,
                base_url=root,
                provider=provider,
                secret=secret,
                request=request,
                target=target,
            )
        root = root.removesuffix("/compatibility/v1").removesuffix("/v2")
        accept = EVENTS if request.stream else "application/json"
        headers = call_headers(provider, target, bearer(secret), accept=accept)
        params = {**provider.params, **target.params}
        if request.endpoint == EMBEDDINGS_PATH:
            return embedding_exchange(
                request,
                target,
                COHERE_EMBED,
                lambda body, _: HttpRequest(url=f"{root}/v2/embed", headers=headers, body=body),
                params=(params,),
                secret=secret,
            )
        if request.endpoint == RERANK:
            asked = build_reranking(request.raw, model=target.model, params=params)
            body = msgspec.json.encode(asked.body)
            ranking = RankingExchange(
                request=HttpRequest(url=f"{root}/v2/rerank", headers=headers, body=body),
                endpoint=RERANK,
                secret=secret,
            )
            ranking.documents = asked.documents
            return ranking
        chat, served = chat_of(request, target)
        built = build_request(chat)
        refuse_dropped(built.dropped, target)
        body = msgspec.json.encode(with_params(built.body, params))
        return TranslatingExchange(
            request=HttpRequest(url=f"{root}/v2/chat", headers=headers, body=body),
            chat=chat,
            served=served,
            target=COHERE,
            built=built,
            secret=secret,
        )


ADAPTERS = (CohereAdapter(),)
