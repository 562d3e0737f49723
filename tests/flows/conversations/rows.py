"""The fake vendors, how the config names them, and what they can do."""

from collections.abc import Callable, Mapping

import msgspec

from tests.fakes.vendors import anthropic, bedrock, gemini
from tests.fakes.vendors.anthropic import AnthropicVendor
from tests.fakes.vendors.bedrock import BedrockVendor
from tests.fakes.vendors.gemini import GeminiVendor
from tests.fakes.vendors.local import LocalVendor
from tests.fakes.vendors.openai import OpenAIVendor
from tests.fakes.vendors.scenes import SceneVendor

CHAT = frozenset({"chat", "thoughts", "long"})
ALL = CHAT | {"embeddings"}
"""`long`: its fake sends arguments in few pieces; `proofs`: it wants something back."""

PROVEN = frozenset({"chat", "thoughts", "proofs"})
KEY = "sk-vendor-0123456789abcdef"
AWS = {
    "AWS_ACCESS_KEY_ID": "AKIAFAKE",
    "AWS_SECRET_ACCESS_KEY": "the-vendors-secret-0123456789",
    "AWS_EC2_METADATA_DISABLED": "true",
}
"""What the gateway's environment holds for Bedrock; every call is signed with it."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A vendor: its fake and its dialect, the provider in the config file, the upstream models.

    `{url}` in a field is the fake's root. `can` says which conversations it can be part of;
    `proofs` are what its thoughts come with.
    """

    fake: Callable[[], SceneVendor]
    provider: Mapping[str, object]
    model: str
    dialect: str = "openai"
    embedding_model: str = "embed-1"
    can: frozenset[str] = ALL
    proofs: tuple[str, ...] = ()

    def config(self, url: str) -> dict[str, object]:
        """Return the provider's section."""
        return {
            name: value.replace("{url}", url) if isinstance(value, str) else value
            for name, value in self.provider.items()
        }


def openai_like(kind: str, model: str = "", can: frozenset[str] = ALL) -> Row:
    """Return the row of a vendor that speaks OpenAI's dialect."""
    provider = {"kind": kind, "base_url": "{url}/v1", "api_key": KEY}
    return Row(fake=OpenAIVendor, provider=provider, model=model or f"{kind}-1", can=can)


ROWS: Mapping[str, Row] = {
    "openai": openai_like("openai", "gpt-4.1"),
    "azure": Row(
        fake=OpenAIVendor,
        provider={
            "kind": "azure_openai",
            "base_url": "{url}",
            "api_key": KEY,
            "api_version": "2024-10-21",
        },
        model="my-gpt",
    ),
    "anthropic": Row(
        fake=AnthropicVendor,
        provider={"kind": "anthropic", "base_url": "{url}", "api_key": KEY},
        model="claude-sonnet-4-5",
        dialect="anthropic",
        can=PROVEN,
        proofs=(anthropic.SIGNATURE,),
    ),
    "gemini": Row(
        fake=GeminiVendor,
        provider={"kind": "gemini", "base_url": "{url}", "api_key": KEY},
        model="gemini-2.5-flash",
        dialect="gemini",
        embedding_model="gemini-embedding-001",
        can=ALL | {"proofs"},
        proofs=(gemini.SIGNATURE,),
    ),
    "vertex": Row(
        fake=GeminiVendor,
        provider={
            "kind": "gemini",
            "base_url": "{url}",
            "api_key": "ya29.token",
            "project": "p-1",
            "location": "us-central1",
        },
        model="gemini-3-pro",
        dialect="gemini",
        embedding_model="gemini-embedding-001",
        can=ALL | {"proofs"},
        proofs=(gemini.SIGNATURE,),
    ),
    "bedrock": Row(
        fake=lambda: BedrockVendor(secret_key=AWS["AWS_SECRET_ACCESS_KEY"]),
        provider={"kind": "bedrock", "base_url": "{url}", "region": "us-east-1"},
        model="us.anthropic.claude-sonnet-4-5-20250929-v1:0",
        dialect="bedrock",
        embedding_model="amazon.titan-embed-text-v2:0",
        can=PROVEN | {"embeddings"},
        proofs=(bedrock.SIGNATURE,),
    ),
    "ollama": Row(
        fake=LocalVendor,
        provider={"kind": "ollama", "base_url": "{url}"},
        model="llama3",
        dialect="ollama",
    ),
    "openai_compatible": openai_like("openai_compatible"),
    "openrouter": openai_like("openrouter"),
    "groq": openai_like("groq", can=CHAT),
    "xai": openai_like("xai", "grok-4", CHAT),
    "mistral": Row(
        fake=lambda: OpenAIVendor(always_count=True),
        provider={"kind": "mistral", "base_url": "{url}/v1", "api_key": KEY},
        model="mistral-large-latest",
    ),
    "deepseek": openai_like("deepseek", "deepseek-chat", CHAT),
    "vllm": openai_like("vllm"),
}
