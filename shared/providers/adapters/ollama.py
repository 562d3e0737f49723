"""Ollama by its OpenAI-compatible surface at `{base_url}/v1`.

That surface cannot set the context length: set `OLLAMA_CONTEXT_LENGTH` on the server where
prompts are long, for a longer prompt is cut silently. Prices are the operator's; without one the
cost is unknown, not zero.
"""

from typing_extensions import override

from shared.config.model import ProviderConfig
from shared.providers.adapter import Adapter
from shared.providers.base_url import with_v1
from shared.providers.exchange import Exchange
from shared.providers.relay import Vendor, relay
from shared.providers.request import InferenceRequest
from shared.providers.target import Target

DEFAULT_BASE_URL = "http://localhost:11434"
_VENDOR = Vendor(kind="ollama", needs_key=False)


class OllamaAdapter(Adapter):
    """Relays to a local server or to ollama.com."""

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
        """Return the relay; `base_url` is the host's root."""
        return relay(
            _VENDOR,
            base_url=with_v1(provider.base_url or DEFAULT_BASE_URL),
            provider=provider,
            secret=secret,
            request=request,
            target=target,
        )


ADAPTERS = (OllamaAdapter(),)
