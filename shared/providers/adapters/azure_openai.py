"""Azure OpenAI: deployments by API version, the v1 surface, and the models of Azure AI Foundry.

| `base_url` | `api_version` | asked |
|---|---|---|
| the resource | a date | `/openai/deployments/MODEL/...?api-version=` |
| the resource, or ending in `/openai/v1` | none, `v1` or `preview` | `/openai/v1/...` |
| ending in `/models` (Foundry) | a date, or none | `/models/...?api-version=` |

`model` of a target is the deployment's name, which tells nothing; `base_model` says what it is. The
key goes into `api-key`; a token of Entra ID (a JWT) into `authorization`.
"""

import re
from functools import lru_cache
from urllib.parse import quote, urlencode

import msgspec
from typing_extensions import override

from shared.config.model import ProviderConfig
from shared.errors import OwnFault
from shared.providers.adapter import Adapter
from shared.providers.dialects.openai_draft import drops
from shared.providers.dialects.openai_embeddings import base64_too
from shared.providers.dialects.openai_messages import refuses_parts
from shared.providers.dialects.openai_models import OPENAI
from shared.providers.dialects.passed import IMAGES, SPEECH, TRANSCRIPTIONS
from shared.providers.exchange import Exchange
from shared.providers.relay import ENDPOINTS, WITH_RESPONSES, Vendor, Way, asked, asked_endpoint
from shared.providers.request import InferenceRequest
from shared.providers.target import Target

FOUNDRY_VERSION = "2024-05-01-preview"
STREAM_OPTIONS_SINCE = "2024-09"
"""Older versions answer `stream_options` with 400."""

_ROOT = re.compile(r"/openai(?:/v1|/deployments(?:/[^/]+)?)?$")
_NEWEST = {"", "v1", "preview", "latest"}
_WHOLE_RESOURCE = frozenset({"/v1/responses"})
"""Endpoints that have no deployment in their path."""

_SERVED = ENDPOINTS | {IMAGES, SPEECH, TRANSCRIPTIONS}

# Its filters' fields and first chunk are not OpenAI's, and files go by Responses only.
VENDOR = Vendor(
    kind="azure_openai",
    endpoints=_SERVED,
    vectors=(base64_too,),
    steps=(*OPENAI, refuses_parts("file")),
)
_OLD = Vendor(
    kind="azure_openai",
    endpoints=_SERVED,
    vectors=(base64_too,),
    steps=(*VENDOR.steps, drops("stream_options")),
)


_NEW = msgspec.structs.replace(VENDOR, endpoints=_SERVED | WITH_RESPONSES)


class AzureAdapter(Adapter):
    """Asks one resource's deployments."""

    kind = VENDOR.kind
    needs_base_url = True
    vendor = VENDOR

    @override
    def exchange(
        self,
        provider: ProviderConfig,
        secret: str | None,
        request: InferenceRequest,
        target: Target,
    ) -> Exchange:
        """Return the exchange with a deployment.

        Raises:
            UnsupportedParameter: Azure does not serve this endpoint, or a part of the request.
            OwnFault: the config has no address.
        """
        if provider.base_url is None:
            raise OwnFault(f"Provider {target.provider!r} has no base_url.")
        version = provider.api_version or ""
        vendor = _vendor(version, provider.base_url)
        way = Way(
            url=deployment_url(
                provider.base_url, version, asked_endpoint(vendor, request, target), target.model
            ),
            auth=_auth(secret),
            stream_options=vendor is not _OLD,
        )
        return asked(vendor, way, provider=provider, secret=secret, request=request, target=target)


@lru_cache(maxsize=1024)
def deployment_url(base_url: str, version: str, endpoint: str, deployment: str) -> str:
    """Return the URL of an endpoint; the table above says which."""
    base = base_url.rstrip("/")
    path = endpoint.removeprefix("/v1")
    if base.endswith("/models"):
        return f"{base}{path}?{urlencode({'api-version': version or FOUNDRY_VERSION})}"
    root = _ROOT.sub("", base)
    if version in _NEWEST or base.endswith("/openai/v1"):
        query = "?api-version=preview" if version == "preview" else ""
        return f"{root}/openai/v1{path}{query}"
    if endpoint not in _WHOLE_RESOURCE:
        path = f"/deployments/{quote(deployment, safe='')}{path}"
    return f"{root}/openai{path}?{urlencode({'api-version': version})}"


def _vendor(version: str, base_url: str) -> Vendor:
    if version not in _NEWEST:
        return _OLD if version < STREAM_OPTIONS_SINCE else VENDOR
    return VENDOR if base_url.rstrip("/").endswith("/models") else _NEW


def _auth(secret: str | None) -> dict[str, str]:
    if not secret:
        return {}
    if secret.startswith("eyJ"):
        return {"authorization": f"Bearer {secret}"}
    return {"api-key": secret}


ADAPTERS = (AzureAdapter(),)
