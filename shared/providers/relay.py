"""Building the relay to any server that speaks OpenAI's dialect; the adapters are its rows."""

from collections.abc import Mapping

import msgspec
from typing_extensions import override

from shared.config.model import ProviderConfig
from shared.errors import OwnFault, UnsupportedParameter
from shared.providers.adapter import Adapter
from shared.providers.base_url import endpoint_url
from shared.providers.dialects.openai import RelayExchange, rewrite
from shared.providers.dialects.openai_chat import CHAT, build_request
from shared.providers.exchange import Exchange, HttpRequest
from shared.providers.request import InferenceRequest
from shared.providers.served import chat_of
from shared.providers.target import Target
from shared.providers.translation import TranslatingExchange, refuse_dropped, with_params

USER_AGENT = "sluiceway"
CHAT_PATH = "/v1/chat/completions"
GENERATING = frozenset({CHAT_PATH, "/v1/completions"})
ENDPOINTS = frozenset({*GENERATING, "/v1/embeddings"})


class Vendor(msgspec.Struct, frozen=True, kw_only=True):
    """A vendor or server that speaks OpenAI's dialect; one row is all it takes.

    `stream_options`: it takes them, so that usage of streams is always asked for. `endpoints` are
    those it has. `headers` are sent with every call unless the config names the same.
    """

    kind: str
    base_url: str | None = None
    needs_key: bool = True
    stream_options: bool = True
    endpoints: frozenset[str] = ENDPOINTS
    headers: Mapping[str, str] = {}


class RelayAdapter(Adapter):
    """Relays to one row's vendor; the config may give another address."""

    def __init__(self, vendor: Vendor) -> None:
        self.kind = vendor.kind
        self.needs_key = vendor.needs_key
        self.needs_base_url = vendor.base_url is None
        self._vendor = vendor

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
        base_url = provider.base_url or self._vendor.base_url
        if base_url is None:
            raise OwnFault(f"Provider {target.provider!r} has no base_url.")
        return relay(
            self._vendor,
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
    """Return one attempt's exchange. No header of the caller goes on.

    What the vendor has no path for is asked of its chat, in translation.

    Raises:
        UnsupportedParameter: the vendor serves neither, or cannot do what was asked.
        InvalidRequest: the body is not of its dialect's form.
    """
    if request.endpoint not in vendor.endpoints:
        return _translated(
            vendor,
            base_url=base_url,
            provider=provider,
            secret=secret,
            request=request,
            target=target,
        )
    force = request.stream and vendor.stream_options and request.endpoint in GENERATING
    params = {**provider.params, **target.params}
    http = HttpRequest(
        url=endpoint_url(base_url, request.endpoint),
        headers=_headers(vendor, provider, secret, request, target),
        body=rewrite(request.raw, model=target.model, params=params, force_stream_usage=force),
    )
    return RelayExchange(
        request=http,
        endpoint=request.endpoint,
        include_usage=request.include_usage,
        usage_forced=force and not request.include_usage,
        encoding_format=request.head.encoding_format,
        secret=secret,
    )


def _translated(
    vendor: Vendor,
    *,
    base_url: str,
    provider: ProviderConfig,
    secret: str | None,
    request: InferenceRequest,
    target: Target,
) -> Exchange:
    if CHAT_PATH not in vendor.endpoints:
        raise UnsupportedParameter(
            f"{target.name} does not serve {request.endpoint}.", param="model"
        )
    chat, served = chat_of(request, target)
    built = build_request(chat)
    refuse_dropped(built.dropped, target)
    body = with_params(built.body, provider.params, target.params)
    return TranslatingExchange(
        request=HttpRequest(
            url=endpoint_url(base_url, CHAT_PATH),
            headers=_headers(vendor, provider, secret, request, target),
            body=msgspec.json.encode(body),
        ),
        chat=chat,
        served=served,
        target=CHAT,
        built=built,
        secret=secret,
    )


def _headers(
    vendor: Vendor,
    provider: ProviderConfig,
    secret: str | None,
    request: InferenceRequest,
    target: Target,
) -> dict[str, str]:
    headers = {
        "content-type": "application/json",
        "accept": "text/event-stream" if request.stream else "application/json",
        # Unpacking would need a limit of its own: 306 KB of gzip can hold 300 MB.
        "accept-encoding": "identity",
        "user-agent": USER_AGENT,
    }
    if secret:
        headers["authorization"] = f"Bearer {secret}"
    for own in (vendor.headers, provider.headers, target.headers):
        if own:
            headers.update({name.lower(): value for name, value in own.items()})
    return headers
