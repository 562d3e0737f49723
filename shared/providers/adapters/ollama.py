"""Ollama, by its OpenAI-compatible surface where nothing is lost by it, else by its native one.

Callers who speak OpenAI's dialect are relayed to `{base_url}/v1`. That surface cannot set the
context length, hear `tool_choice`, fetch pictures …, and passes over most of it in silence: a
question that needs such a thing, every other dialect and all vectors go to `/api`. There
`num_ctx`, `keep_alive`, `think` and the like may stand in the body or in the operator's `params`.
Prices are the operator's; without one the cost is unknown, not zero.
"""

from collections.abc import Sequence

import msgspec
from typing_extensions import override

from shared.chat.message import ImagePart
from shared.config.model import ProviderConfig
from shared.providers.adapter import Adapter
from shared.providers.base_url import with_v1
from shared.providers.dialects.ollama import NATIVE, build_request, placed
from shared.providers.dialects.ollama_answer import OLLAMA
from shared.providers.dialects.ollama_embed import OLLAMA_EMBED
from shared.providers.embedding import EMBEDDINGS_PATH, embedding_exchange
from shared.providers.exchange import Exchange, HttpRequest
from shared.providers.headers import bearer, call_headers
from shared.providers.relay import GENERATING, Vendor, relay
from shared.providers.request import InferenceRequest
from shared.providers.served import chat_of
from shared.providers.target import Target
from shared.providers.translation import TranslatingExchange, refuse_dropped

DEFAULT_BASE_URL = "http://localhost:11434"
_VENDOR = Vendor(kind="ollama", needs_key=False)
_MARKS = tuple(f'"{name}"'.encode() for name in sorted({*NATIVE, "input_audio", "file"}))
"""Words that, in a body, may mean more than the compatible surface understands."""


class OllamaAdapter(Adapter):
    """Asks a local server or ollama.com. `base_url` is the host's root, with or without `/v1`."""

    kind = "ollama"
    needs_key = False

    @override
    def exchange(
        self,
        provider: ProviderConfig,
        secret: str | None,
        request: InferenceRequest,
        target: Target,
    ) -> Exchange:
        """Return the relay, or the conversation with the native surface."""
        base_url = provider.base_url or DEFAULT_BASE_URL
        root = base_url.rstrip("/").removesuffix("/v1")
        accept = "application/x-ndjson" if request.stream else "application/json"
        headers = call_headers(provider, target, bearer(secret), accept=accept)
        if request.endpoint == EMBEDDINGS_PATH:
            return embedding_exchange(
                request,
                target,
                OLLAMA_EMBED,
                lambda body, _: HttpRequest(url=f"{root}/api/embed", headers=headers, body=body),
                params=(placed(provider.params)[0], placed(target.params)[0]),
                secret=secret,
            )
        if request.endpoint in GENERATING and not _needs_native(provider, request, target):
            return relay(
                _VENDOR,
                base_url=with_v1(base_url),
                provider=provider,
                secret=secret,
                request=request,
                target=target,
            )
        chat, served = chat_of(request, target)
        params = {**provider.params, **target.params}
        built = build_request(chat, params=params, files=request.files)
        refuse_dropped(built.dropped, target)
        return TranslatingExchange(
            request=HttpRequest(
                url=f"{root}/api/chat", headers=headers, body=msgspec.json.encode(built.body)
            ),
            chat=chat,
            served=served,
            target=OLLAMA,
            built=built,
            secret=secret,
        )

    @override
    def fetches(self, request: InferenceRequest, target: Target) -> Sequence[str]:
        """Return the addresses of pictures: Ollama takes them only inside the request."""
        if b"http" not in request.raw or b"image" not in request.raw:
            return ()
        if request.endpoint == EMBEDDINGS_PATH:
            return ()
        chat, _ = chat_of(request, target)
        parts = [part for message in chat.messages for part in message.parts]
        images = [part.url for part in parts if isinstance(part, ImagePart)]
        return [url for url in images if url.startswith(("http://", "https://"))]


def _needs_native(provider: ProviderConfig, request: InferenceRequest, target: Target) -> bool:
    head, raw = request.head, request.raw
    return bool(
        request.files
        or (head.n or 1) > 1
        or head.logit_bias
        or head.parallel_tool_calls is False
        or head.tool_choice not in (None, "auto")
        or not NATIVE.isdisjoint(provider.params)
        or not NATIVE.isdisjoint(target.params)
        or any(mark in raw for mark in _MARKS)
    )


ADAPTERS = (OllamaAdapter(),)
