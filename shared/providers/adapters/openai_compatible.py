"""Vendors and servers that speak OpenAI's dialect: one row each.

Sources of the addresses and quirks: the vendors' API documentation, state of November 2026.
"""

from shared.providers.relay import RelayAdapter, Vendor

ROWS = (
    # Any other server; the operator gives the address, local ones need no key.
    Vendor(kind="openai_compatible", needs_key=False),
    Vendor(kind="vllm", base_url="http://localhost:8000/v1", needs_key=False),
    Vendor(
        kind="groq",
        base_url="https://api.groq.com/openai/v1",
        endpoints=frozenset({"/v1/chat/completions"}),
    ),
    Vendor(kind="openrouter", base_url="https://openrouter.ai/api/v1"),
)

ADAPTERS = tuple(RelayAdapter(row) for row in ROWS)
