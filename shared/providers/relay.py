"""Asking any server that speaks OpenAI's dialect; the adapters are its rows."""

from collections.abc import Mapping
from functools import lru_cache

import msgspec
from typing_extensions import override

from shared.config.model import ProviderConfig
from shared.errors import OwnFault, UnsupportedParameter
from shared.providers.adapter import Adapter
from shared.providers.base_url import endpoint_url
from shared.providers.dialects.openai import RelayExchange, written
from shared.providers.dialects.openai_chat import CHAT, build_request
from shared.providers.dialects.openai_draft import Draft, Step, applied, drafted
from shared.providers.dialects.openai_embeddings import floats_only, inputs_of
from shared.providers.dialects.openai_models import LENIENT
from shared.providers.dialects.passed import ENDPOINTS as PASSED
from shared.providers.dialects.passed import PassedExchange, rewritten
from shared.providers.dialects.responses_relay import ResponsesRelayExchange, rewrite
from shared.providers.exchange import Exchange, HttpRequest
from shared.providers.headers import EVENTS, bearer, call_headers
from shared.providers.request import InferenceRequest
from shared.providers.served import chat_of
from shared.providers.target import Target
from shared.providers.translation import TranslatingExchange, refuse_dropped

CHAT_PATH = "/v1/chat/completions"
EMBEDDINGS_PATH = "/v1/embeddings"
GENERATING = frozenset({CHAT_PATH, "/v1/completions"})
ENDPOINTS = frozenset({*GENERATING, EMBEDDINGS_PATH})
CHAT_ONLY = frozenset({CHAT_PATH})
RESPONSES_PATH = "/v1/responses"
WITH_RESPONSES = frozenset({*ENDPOINTS, RESPONSES_PATH})
JSON = "application/json"
MOST_WAYS = 256
"""Distinct ways kept; they hold keys, so they do not pile up for ever."""


class Vendor(msgspec.Struct, frozen=True, kw_only=True):
    """A vendor or server that speaks OpenAI's dialect; one row is all it takes.

    `stream_options`: it takes them, so that usage of streams is always asked for. `endpoints` are
    those it has. `headers` are sent with every call unless the config names the same. `steps` make
    its words of OpenAI's in a chat request. `tidy`: its answers keep to OpenAI's form and are
    passed on unread; others are mended where they do not. `responses_lack` are fields of Responses
    that its own do not know. `vectors` are the steps for embeddings.
    """

    kind: str
    base_url: str | None = None
    needs_key: bool = True
    stream_options: bool = True
    endpoints: frozenset[str] = ENDPOINTS
    headers: Mapping[str, str] = {}
    steps: tuple[Step, ...] = LENIENT
    tidy: bool = False
    responses_lack: tuple[str, ...] = ()
    vectors: tuple[Step, ...] = (floats_only,)


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """Where a call goes: the URL of an endpoint there, and the headers that show who asks."""

    url: str
    auth: Mapping[str, str]
    stream_options: bool = True


class RelayAdapter(Adapter):
    """Relays to one row's vendor; the config may give another address."""

    def __init__(self, vendor: Vendor) -> None:
        self.kind = vendor.kind
        self.needs_key = vendor.needs_key
        self.needs_base_url = vendor.base_url is None
        self.vendor = vendor

    @override
    def exchange(
        self,
        provider: ProviderConfig,
        secret: str | None,
        request: InferenceRequest,
        target: Target,
    ) -> Exchange:
        """Return the relay to this vendor.

        Raises:
            UnsupportedParameter: the vendor does not serve this endpoint or dialect.
            OwnFault: neither the row nor the config has an address.
        """
        base_url = provider.base_url or self.vendor.base_url
        if base_url is None:
            raise OwnFault(f"Provider {target.provider!r} has no base_url.")
        return relay(
            self.vendor,
            base_url=base_url,
            provider=provider,
            secret=secret,
            request=request,
            target=target,
        )


def relay(
    vendor: Vendor,
    *,
    base_url: str,
    provider: ProviderConfig,
    secret: str | None,
    request: InferenceRequest,
    target: Target,
) -> Exchange:
    """Return one attempt's exchange with a server at a base URL that takes its key as a bearer.

    Raises:
        UnsupportedParameter: the vendor serves neither the endpoint nor a chat, or cannot do what
            was asked.
        InvalidRequest: the body is not of its dialect's form.
    """
    endpoint = asked_endpoint(vendor, request, target)
    way = _bearer_way(base_url, endpoint, secret, stream_options=vendor.stream_options)
    return asked(vendor, way, provider=provider, secret=secret, request=request, target=target)


@lru_cache(maxsize=MOST_WAYS)
def _bearer_way(base_url: str, endpoint: str, secret: str | None, *, stream_options: bool) -> Way:
    return Way(
        url=endpoint_url(base_url, endpoint), auth=bearer(secret), stream_options=stream_options
    )


def asked_endpoint(vendor: Vendor, request: InferenceRequest, target: Target) -> str:
    """Return the vendor's endpoint for a request: the same, else its chat, in translation.

    Raises:
        UnsupportedParameter: it has neither.
    """
    if request.endpoint in vendor.endpoints:
        return request.endpoint
    if CHAT_PATH not in vendor.endpoints:
        raise UnsupportedParameter(
            f"{target.name} does not serve {request.endpoint}.", param="model"
        )
    return CHAT_PATH


def asked(
    vendor: Vendor,
    way: Way,
    *,
    provider: ProviderConfig,
    secret: str | None,
    request: InferenceRequest,
    target: Target,
) -> Exchange:
    """Return one attempt's exchange, relayed or translated. No header of the caller goes on.

    Raises:
        UnsupportedParameter: the vendor cannot do what was asked.
        InvalidRequest: the body is not of its dialect's form.
    """
    streams = bool(request.head.stream)
    headers = _headers(vendor, way, provider, target, accept=EVENTS if streams else JSON)
    if request.endpoint in PASSED and request.endpoint in vendor.endpoints:
        return _passed(way, headers, provider, secret, request, target)
    if request.endpoint not in vendor.endpoints:
        return translated(vendor, way, headers, provider, secret, request, target)
    if request.endpoint == RESPONSES_PATH:
        return _response(vendor, way, headers, provider, secret, request, target)
    chats, inputs = request.endpoint == CHAT_PATH, None
    draft = drafted(
        request.raw,
        model=target.model,
        params=operators(provider, target),
        able=target.capabilities,
        known_as=target.base_model,
        history=request.history,
    )
    if chats:
        refuse_dropped(applied(draft, vendor.steps).dropped, target)
    elif request.endpoint == EMBEDDINGS_PATH:
        inputs = inputs_of(draft)
        refuse_dropped(applied(draft, vendor.vectors).dropped, target)
    force = streams and way.stream_options and request.endpoint in GENERATING
    return RelayExchange(
        request=HttpRequest(
            url=way.url, headers=headers, body=written(draft, force_stream_usage=force)
        ),
        endpoint=request.endpoint,
        include_usage=request.include_usage,
        usage_forced=force and not request.include_usage,
        encoding_format=request.head.encoding_format,
        dimensions=request.head.dimensions,
        secret=secret,
        dropped=tuple(draft.dropped),
        names=draft.names if chats and (draft.names or not vendor.tidy) else None,
        model=target.model,
        inputs=inputs,
    )


def _response(
    vendor: Vendor,
    way: Way,
    headers: Mapping[str, str],
    provider: ProviderConfig,
    secret: str | None,
    request: InferenceRequest,
    target: Target,
) -> Exchange:
    body, lost = rewrite(
        request.raw,
        model=target.model,
        params=operators(provider, target),
        lacks=vendor.responses_lack,
        expanded=request.expanded,
    )
    refuse_dropped(lost, target)
    return ResponsesRelayExchange(
        request=HttpRequest(url=way.url, headers=headers, body=body), secret=secret, dropped=lost
    )


def _passed(
    way: Way,
    headers: Mapping[str, str],
    provider: ProviderConfig,
    secret: str | None,
    request: InferenceRequest,
    target: Target,
) -> PassedExchange:
    kind = request.content_type
    params = {**provider.params, **target.params}
    body = rewritten(request.raw, content_type=kind, model=target.model, params=params)
    accept = "text/event-stream" if request.stream else "*/*"
    return PassedExchange(
        request=HttpRequest(
            url=way.url, headers={**headers, "content-type": kind, "accept": accept}, body=body
        ),
        endpoint=request.endpoint,
        asked=request.raw,
        secret=secret,
    )


def operators(provider: ProviderConfig, target: Target) -> Mapping[str, object]:
    """Return the operator's fields for a target; its own go before its provider's."""
    if not provider.params or not target.params:
        return target.params or provider.params
    return {**provider.params, **target.params}


def translated(
    vendor: Vendor,
    way: Way,
    headers: Mapping[str, str],
    provider: ProviderConfig,
    secret: str | None,
    request: InferenceRequest,
    target: Target,
) -> Exchange:
    """Return the exchange that asks the vendor's chat what was asked in another dialect."""
    chat, served = chat_of(request, target)
    built = build_request(chat, stream_options=way.stream_options)
    params = operators(provider, target)
    own = {name: value for name, value in params.items() if name not in built.body}
    if "max_completion_tokens" in built.body:
        own.pop("max_tokens", None)  # the older name of the same
    draft = Draft({**own, **built.body}, model=target.known_as, own=own, able=target.capabilities)
    draft.dropped.extend(built.dropped)
    applied(draft, vendor.steps)
    refuse_dropped(draft.dropped, target)
    return TranslatingExchange(
        request=HttpRequest(url=way.url, headers=headers, body=msgspec.json.encode(draft.body)),
        chat=chat,
        served=served,
        target=CHAT,
        built=msgspec.structs.replace(
            built,
            body=draft.body,
            asked=msgspec.structs.replace(built.asked, tool_names=draft.names),
            dropped=tuple(draft.dropped),
        ),
        secret=secret,
    )


def _headers(
    vendor: Vendor, way: Way, provider: ProviderConfig, target: Target, *, accept: str
) -> dict[str, str]:
    own = way.auth
    if vendor.headers:
        own = {**own, **{name.lower(): value for name, value in vendor.headers.items()}}
    return call_headers(provider, target, own, accept=accept)
