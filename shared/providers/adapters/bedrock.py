"""AWS Bedrock: Converse and ConverseStream for chats, InvokeModel for vectors.

Calls are signed with what AWS's credential chain finds, or carry a Bedrock key: `api_key`, or
`AWS_BEARER_TOKEN_BEDROCK` in the environment. The region is the config's, or that of the model's
ARN, of the base URL, or of the AWS configuration, in this order.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import quote

import msgspec
from typing_extensions import override

from shared.config.model import ProviderConfig
from shared.errors import OwnFault
from shared.providers.adapter import Adapter, Authorizer
from shared.providers.aws import Signer, signed, signer_in
from shared.providers.aws_chain import authorizer_of
from shared.providers.dialects.bedrock import BEDROCK, build_request
from shared.providers.dialects.bedrock_embeddings import target_of
from shared.providers.dialects.bedrock_media import url_of
from shared.providers.embedding import EMBEDDINGS_PATH, embedding_exchange
from shared.providers.exchange import Exchange, HttpRequest
from shared.providers.fetching import urls_in
from shared.providers.headers import USER_AGENT
from shared.providers.request import InferenceRequest
from shared.providers.served import chat_of
from shared.providers.target import Target
from shared.providers.translation import TranslatingExchange, refuse_dropped

_REGION = re.compile(r"^arn:aws[a-z-]*:bedrock:([a-z0-9-]+):|bedrock-runtime\.([a-z0-9-]+)\.")


class BedrockAdapter(Adapter):
    """Calls `{base_url}/model/{id}/…`."""

    kind = "bedrock"
    needs_key = False

    @override
    def authorizer(self, provider: ProviderConfig) -> Authorizer:
        """Return what asks AWS's chain."""
        return authorizer_of(provider.profile)

    @override
    def fetches(self, request: InferenceRequest, target: Target) -> Sequence[str]:
        """Return all http and https URLs of pictures and documents."""
        return urls_in(request, target, url_of)

    @override
    def exchange(
        self,
        provider: ProviderConfig,
        secret: str | None,
        request: InferenceRequest,
        target: Target,
    ) -> Exchange:
        """Return the translation of a chat, or the calls for vectors.

        Raises:
            UnsupportedParameter: neither stands on this path, or the model cannot do it.
            InvalidRequest: the body is not of its dialect's form.
            OwnFault: nothing says which region.
        """
        caller = _Caller(provider, secret, request, target)
        if request.endpoint == EMBEDDINGS_PATH:
            return embedding_exchange(
                request,
                target,
                target_of(target.model),
                caller.http("invoke"),
                params=(provider.params, target.params),
                secret=caller.hidden,
            )
        chat, served = chat_of(request, target)
        built = build_request(chat, request.files)
        refuse_dropped(built.dropped, target)
        body = _filled(built.body, provider.params, target.params)
        http = caller.http("converse-stream" if chat.stream else "converse")
        return TranslatingExchange(
            request=http(msgspec.json.encode(body), built.headers),
            chat=chat,
            served=served,
            target=BEDROCK,
            built=built,
            secret=caller.hidden,
        )


class _Caller:
    """Makes the HTTP requests of one attempt."""

    def __init__(
        self,
        provider: ProviderConfig,
        secret: str | None,
        request: InferenceRequest,
        target: Target,
    ) -> None:
        self._provider = provider
        self._target = target
        self._stream = request.stream
        self._signer = signer_in(secret)
        self._key = secret if self._signer is None else None
        self._region = _region(provider, target, self._signer)

    @property
    def hidden(self) -> str | None:
        """What must not stand in any message."""
        return self._key if self._signer is None else self._signer.secret_key

    def http(self, action: str) -> Callable[[bytes, Mapping[str, str]], HttpRequest]:
        """Return what makes the request of a body; `action` is the end of the path."""
        model = quote(self._target.model, safe="")
        url = f"{self._root()}/model/{model}/{action}"
        return lambda body, own: HttpRequest(
            url=url, headers=self._headers(url, body, own), body=body
        )

    def _root(self) -> str:
        if self._provider.base_url is not None:
            return self._provider.base_url.rstrip("/")
        domain = "amazonaws.com.cn" if self._region.startswith("cn-") else "amazonaws.com"
        return f"https://bedrock-runtime.{self._region}.{domain}"

    def _headers(self, url: str, body: bytes, own: Mapping[str, str]) -> dict[str, str]:
        accept = "application/vnd.amazon.eventstream" if self._stream else "application/json"
        headers = {
            "content-type": "application/json",
            "accept": accept,
            "accept-encoding": "identity",
            "user-agent": USER_AGENT,
            **own,
        }
        for operators in (self._provider.headers, self._target.headers):
            headers.update({name.lower(): value for name, value in operators.items()})
        if self._key:
            return {"authorization": f"Bearer {self._key}", **headers}
        if self._signer is None:
            return headers
        return signed(headers, url=url, body=body, region=self._region, signer=self._signer)


def _region(provider: ProviderConfig, target: Target, signer: Signer | None) -> str:
    named = [provider.region]
    named += [_region_in(target.model), _region_in(provider.base_url or "")]
    named += [None if signer is None else signer.region]
    found = next(filter(None, named), None)
    if found is None:
        raise OwnFault(f"Provider {target.provider!r} has no region; set `region`.")
    return found


def _region_in(text: str) -> str | None:
    found = _REGION.search(text)
    return None if found is None else found[1] or found[2]


def _filled(body: Mapping[str, object], *params: Mapping[str, object]) -> dict[str, object]:
    """Return the body with the operator's params where the caller said nothing.

    Converse keeps the settings in groups, so groups are filled up one by one.
    """
    filled = dict(body)
    for own in reversed(params):
        for name, value in own.items():
            there = filled.setdefault(name, value)
            if isinstance(there, Mapping) and isinstance(value, Mapping):
                filled[name] = {**value, **there}
    return filled


ADAPTERS = (BedrockAdapter(),)
