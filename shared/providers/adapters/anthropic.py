"""Anthropic, servers that speak its Messages, and Claude on Vertex AI (where there is a `project`).

Relayed to those who ask in its dialect, translated for others. The caller's `anthropic-version` and
`anthropic-beta` go on in the relay only, where the body is theirs; a translated body is ours.
"""

from collections.abc import Mapping, Sequence
from urllib.parse import quote

import msgspec
from typing_extensions import override

from shared.chat.request import ChatRequest
from shared.config.model import ProviderConfig
from shared.providers.adapter import Adapter, Authorizer
from shared.providers.base_url import with_v1
from shared.providers.dialects.anthropic_build import build_request
from shared.providers.dialects.anthropic_parts import urls_to_fetch
from shared.providers.dialects.anthropic_relay import COUNT_PATH, MessagesRelay, rewrite
from shared.providers.dialects.anthropic_stream import MESSAGES
from shared.providers.exchange import Exchange, HttpRequest
from shared.providers.google_auth import GoogleAuthorizer
from shared.providers.headers import USER_AGENT
from shared.providers.request import InferenceRequest
from shared.providers.served import chat_of
from shared.providers.target import Target
from shared.providers.translation import TranslatingExchange, refuse_dropped, with_params
from shared.providers.vertex import vertex_folder, vertex_url

BASE_URL = "https://api.anthropic.com"
VERSION = "2023-06-01"
"""The version every server of this dialect knows; later ones add to it."""

VERTEX_VERSION = "vertex-2023-10-16"
"""The only one there; it stands in the body."""

MESSAGES_PATH = "/v1/messages"
_RELAYED = frozenset({MESSAGES_PATH, COUNT_PATH})
_BETA = "anthropic-beta"


class AnthropicAdapter(Adapter):
    """Calls `{base_url}/v1/messages`; `api_version` fixes the version for all calls."""

    kind = "anthropic"
    counts_tokens = True

    @override
    def exchange(
        self,
        provider: ProviderConfig,
        secret: str | None,
        request: InferenceRequest,
        target: Target,
    ) -> Exchange:
        """Return the relay of a Messages request, the translation of any other chat.

        Raises:
            UnsupportedParameter: what stands on this path is no chat, or Claude cannot do it.
            InvalidRequest: the body is not of its dialect's form.
        """
        if request.endpoint in _RELAYED:
            return _relayed(provider, secret, request, target)
        chat, served = chat_of(request, target)
        params = {**provider.params, **target.params}
        built = build_request(_bounded(chat, params), request.files)
        refuse_dropped(built.dropped, target)
        body = with_params(built.body, params)
        if provider.project is not None:
            del body["model"]
            body["anthropic_version"] = VERTEX_VERSION
        http = HttpRequest(
            url=_url(provider, target, MESSAGES_PATH, stream=chat.stream),
            headers=_headers(provider, secret, request, target, own=built.headers),
            body=msgspec.json.encode(body),
        )
        return TranslatingExchange(
            request=http, chat=chat, served=served, target=MESSAGES, built=built, secret=secret
        )

    @override
    def authorizer(self, provider: ProviderConfig) -> Authorizer | None:
        """Return what obtains tokens for Vertex; Anthropic has a key in the config."""
        return None if provider.project is None else GoogleAuthorizer()

    @override
    def fetches(self, request: InferenceRequest, target: Target) -> Sequence[str]:
        """Return the URLs without TLS: Anthropic fetches the others by itself."""
        if request.endpoint in _RELAYED or b'"http://' not in request.raw:
            return ()
        chat, _ = chat_of(request, target)
        return urls_to_fetch(part for message in chat.messages for part in message.parts)


def _bounded(chat: ChatRequest, params: Mapping[str, object]) -> ChatRequest:
    """Return the question with the operator's bound on output, where the caller set none."""
    bound = params.get("max_tokens")
    if chat.sampling.max_output_tokens is not None or not isinstance(bound, int):
        return chat
    sampling = msgspec.structs.replace(chat.sampling, max_output_tokens=bound)
    return msgspec.structs.replace(chat, sampling=sampling)


def _relayed(
    provider: ProviderConfig, secret: str | None, request: InferenceRequest, target: Target
) -> Exchange:
    counts, vertex = request.endpoint == COUNT_PATH, provider.project is not None
    params = {} if counts else {**provider.params, **target.params}
    if vertex:
        params = {**params, "anthropic_version": VERTEX_VERSION}
    # On Vertex the model stands in the path, but for that of counting.
    model = target.model if counts or not vertex else None
    betas = request.headers.get(_BETA)
    http = HttpRequest(
        url=_url(provider, target, request.endpoint, stream=request.stream),
        headers=_headers(
            provider,
            secret,
            request,
            target,
            version=request.headers.get("anthropic-version"),
            own={} if betas is None else {_BETA: betas},
        ),
        body=rewrite(request.raw, model=model, params=params),
    )
    return MessagesRelay(request=http, endpoint=request.endpoint, secret=secret)


def _url(provider: ProviderConfig, target: Target, path: str, *, stream: bool) -> str:
    if provider.project is None:
        return with_v1(provider.base_url or BASE_URL) + path.removeprefix("/v1")
    location = provider.location or "global"
    base = (provider.base_url or vertex_url(location)).rstrip("/")
    method = "streamRawPredict" if stream else "rawPredict"
    model = "count-tokens" if path == COUNT_PATH else quote(target.model, safe="@")
    folder = vertex_folder(provider.project, location)
    return f"{base}/v1/{folder}/publishers/anthropic/models/{model}:{method}"


def _headers(
    provider: ProviderConfig,
    secret: str | None,
    request: InferenceRequest,
    target: Target,
    *,
    version: str | None = None,
    own: Mapping[str, str],
) -> dict[str, str]:
    headers = {
        "content-type": "application/json",
        "accept": "text/event-stream" if request.stream else "application/json",
        # Unpacking would need a limit of its own: 306 KB of gzip can hold 300 MB.
        "accept-encoding": "identity",
        "user-agent": USER_AGENT,
        **own,
    }
    if provider.project is not None:
        if secret:
            headers["authorization"] = f"Bearer {secret}"
    else:
        headers["anthropic-version"] = provider.api_version or version or VERSION
        if secret:
            headers["x-api-key"] = secret
    for operators in (provider.headers, target.headers):
        for name, value in operators.items():
            _add(headers, name.lower(), value)
    return headers


def _add(headers: dict[str, str], name: str, value: str) -> None:
    """Set an operator's header; betas are joined to those of the call, which needs its own."""
    before = headers.get(name) if name == _BETA else None
    headers[name] = value if before is None else f"{before},{value}"


ADAPTERS = (AnthropicAdapter(),)
