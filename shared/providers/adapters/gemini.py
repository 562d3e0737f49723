"""Google Gemini: the Developer API, and Vertex AI where the config names a `project`.

The Developer API takes `api_key`. Vertex takes one too (an express key, an access token, or a
service account's key file as a path or in base64), else Google's application default credentials.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import msgspec
from typing_extensions import override

from shared.config.model import ProviderConfig
from shared.errors import UnsupportedParameter
from shared.ids import new_id
from shared.providers.adapter import Adapter, Authorizer
from shared.providers.dialects.gemini import GEMINI, VERTEX
from shared.providers.dialects.gemini_embeddings import embedding_method, embedding_target
from shared.providers.dialects.gemini_models import gemini
from shared.providers.dialects.gemini_parts import fetched_by_us
from shared.providers.dialects.gemini_request import build_request, camel
from shared.providers.embedding import EMBEDDINGS_PATH, embedding_exchange
from shared.providers.exchange import Exchange, HttpRequest
from shared.providers.google_auth import GoogleAuthorizer, is_api_key
from shared.providers.headers import EVENTS, bearer, call_headers
from shared.providers.request import InferenceRequest
from shared.providers.served import SERVED, chat_of
from shared.providers.target import Target
from shared.providers.translation import TranslatingExchange, refuse_dropped, with_params
from shared.providers.vertex import vertex_folder, vertex_url

DEVELOPER_URL = "https://generativelanguage.googleapis.com"
DEVELOPER_VERSION = "v1beta"
"""Has the fields of preview models, which v1 lacks."""

VERTEX_VERSION = "v1beta1"
_FOLDERS = frozenset({"models", "tunedModels", "publishers", "endpoints"})


class GeminiAdapter(Adapter):
    """Translates to `generateContent`, and embeddings to what the model has for them."""

    kind = "gemini"

    @override
    def exchange(
        self,
        provider: ProviderConfig,
        secret: str | None,
        request: InferenceRequest,
        target: Target,
    ) -> Exchange:
        """Return one attempt's conversation; proofs of thought go only to the surface they are of.

        Raises:
            UnsupportedParameter: the model's name is no path of models, a parameter may not be
                dropped, or the endpoint is neither a chat's nor that of embeddings.
            InvalidRequest: the body cannot be put into Gemini's words; `param` names the field.
        """
        vertex = provider.project is not None
        if request.endpoint == EMBEDDINGS_PATH:
            return _embedding(provider, secret, request, target, vertex=vertex)
        chat, served = chat_of(request, target)
        built = build_request(chat, vertex=vertex, files=request.files)
        refuse_dropped(built.dropped, target)
        # Where neither calls nor answers have ids, those of two answers must not be the same.
        asked = msgspec.structs.replace(built.asked, nonce=new_id("ask"))
        built = msgspec.structs.replace(built, asked=asked)
        method = "streamGenerateContent?alt=sse" if chat.stream else "generateContent"
        http = HttpRequest(
            url=url_of(provider, target.model, method),
            headers=_headers(provider, secret, target, built.headers, stream=chat.stream),
            body=msgspec.json.encode(filled(built.body, provider.params, target.params)),
        )
        return TranslatingExchange(
            request=http,
            chat=chat,
            served=served,
            target=VERTEX if vertex else GEMINI,
            built=built,
            secret=secret,
        )

    @override
    def authorizer(self, provider: ProviderConfig) -> Authorizer | None:
        """Return what obtains tokens for Vertex; the Developer API has a key in the config."""
        return None if provider.project is None else GoogleAuthorizer()

    @override
    def fetches(self, request: InferenceRequest, target: Target) -> Sequence[str]:
        """Return the URLs that the model does not read by itself, or not without their type."""
        if request.endpoint not in SERVED or b"http" not in request.raw:
            return ()
        chat, _ = chat_of(request, target)
        return fetched_by_us(chat.messages, gemini(target.model))


def url_of(provider: ProviderConfig, model: str, method: str) -> str:
    """Return the address of a model's method.

    Raises:
        UnsupportedParameter: the model's name would lead elsewhere.
    """
    if provider.project is None:
        base = provider.base_url or DEVELOPER_URL
        version = provider.api_version or DEVELOPER_VERSION
        folder = ""
    else:
        location = provider.location or "global"
        base = provider.base_url or vertex_url(location)
        version = provider.api_version or VERTEX_VERSION
        folder = f"{vertex_folder(provider.project, location)}/"
    path = _path(model, "models" if provider.project is None else "publishers/google/models")
    return f"{base.rstrip('/')}/{version}/{folder}{path}:{method}"


def filled(body: Mapping[str, Any], *params: Mapping[str, object]) -> dict[str, object]:
    """Return the body, filled up with the operator's params, `generationConfig` one by one.

    A target's count before its provider's.
    """
    named = [{camel(name): value for name, value in own.items()} for own in params]
    whole = with_params(body, *named)
    configs = [own["generationConfig"] for own in named if "generationConfig" in own]
    if configs:
        own = [config for config in configs if isinstance(config, Mapping)]
        whole["generationConfig"] = with_params(body.get("generationConfig", {}), *own)
    return whole


def _embedding(
    provider: ProviderConfig,
    secret: str | None,
    request: InferenceRequest,
    target: Target,
    *,
    vertex: bool,
) -> Exchange:
    url = url_of(provider, target.model, embedding_method(target.model, vertex=vertex))

    def http(body: bytes, headers: Mapping[str, str]) -> HttpRequest:
        sent = _headers(provider, secret, target, headers, stream=False)
        return HttpRequest(url=url, headers=sent, body=body)

    return embedding_exchange(
        request,
        target,
        embedding_target(target.model, vertex=vertex),
        http,
        params=(target.params,),  # the provider's are a chat's
        secret=secret,
    )


def _path(model: str, folder: str) -> str:
    """Return a model's path; callers may choose names under a wildcard, but no other place."""
    parts = model.split("/")
    if len(parts) > 1 and (parts[0] not in _FOLDERS or {"", ".", ".."} & set(parts)):
        raise UnsupportedParameter(f"{model[:80]!r} is no model of Google's.", param="model")
    path = "/".join(quote(part, safe="@") for part in parts)
    return path if len(parts) > 1 else f"{folder}/{path}"


def _headers(
    provider: ProviderConfig,
    secret: str | None,
    target: Target,
    extra: Mapping[str, str],
    *,
    stream: bool,
) -> dict[str, str]:
    if secret and (provider.project is None or is_api_key(secret)):
        auth = {"x-goog-api-key": secret}
    else:
        auth = bearer(secret)
    accept = EVENTS if stream else "application/json"
    return call_headers(provider, target, {**extra, **auth}, accept=accept)


ADAPTERS = (GeminiAdapter(),)
