"""OpenAI itself."""

from shared.providers.relay import RelayAdapter, Vendor

ADAPTERS = (RelayAdapter(Vendor(kind="openai", base_url="https://api.openai.com/v1")),)
