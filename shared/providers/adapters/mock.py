"""The provider inside this process; `shared/providers/mock.py` says what it can be told."""

from collections.abc import Mapping

import msgspec
from typing_extensions import override

from shared.config.model import ProviderConfig
from shared.providers.adapter import Adapter
from shared.providers.exchange import Exchange
from shared.providers.relay import Vendor, relay
from shared.providers.request import InferenceRequest
from shared.providers.target import Target

_VENDOR = Vendor(kind="mock", needs_key=False, steps=(), tidy=True)


class _Told(msgspec.Struct, frozen=True):
    mock: dict[str, object] | None = None


class MockAdapter(Adapter):
    """Relays to `mock://PROVIDER/v1`, which the mock transport answers."""

    kind = "mock"
    needs_key = False

    @override
    def exchange(
        self,
        provider: ProviderConfig,
        secret: str | None,
        request: InferenceRequest,
        target: Target,
    ) -> Exchange:
        """Return the relay, the `mock` options of provider, target and body merged key by key."""
        told = {**_options(provider.params), **_options(target.params)}
        if told:
            told |= msgspec.json.decode(request.raw, type=_Told).mock or {}
            raw = msgspec.json.decode(request.raw, type=dict[str, msgspec.Raw])
            raw["mock"] = msgspec.Raw(msgspec.json.encode(told))
            request = msgspec.structs.replace(request, raw=msgspec.json.encode(raw))
        return relay(
            _VENDOR,
            base_url=f"mock://{target.provider}/v1",
            provider=provider,
            secret=secret,
            request=request,
            target=target,
        )


def _options(params: Mapping[str, object]) -> dict[str, object]:
    found = params.get("mock")
    return dict(found) if isinstance(found, Mapping) else {}


ADAPTERS = (MockAdapter(),)
