"""What can be called from here: vendors whose keys are in the environment, a local Ollama."""

from collections.abc import Mapping

import aiohttp
import msgspec

OLLAMA_URL = "http://localhost:11434"
OLLAMA_ANSWER_S = 0.3
"""A local server answers in milliseconds; who has none should not wait."""
OLLAMA_MODELS = 20


class Vendor(msgspec.Struct, frozen=True, kw_only=True):
    """A provider that is there when its key is; `models` are cheap ones, the first for the tour."""

    name: str
    key_variable: str
    models: tuple[str, ...]


VENDORS = (
    Vendor(
        name="openai",
        key_variable="OPENAI_API_KEY",
        models=("gpt-4o-mini", "gpt-4.1-mini", "gpt-4o"),
    ),
    Vendor(
        name="groq",
        key_variable="GROQ_API_KEY",
        models=("llama-3.1-8b-instant", "llama-3.3-70b-versatile"),
    ),
    Vendor(
        name="openrouter",
        key_variable="OPENROUTER_API_KEY",
        models=("openai/gpt-4o-mini", "meta-llama/llama-3.1-8b-instruct"),
    ),
)
"""All other models of a vendor are asked for as `vendor/model`; prices come from the list."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A provider for the generated config, and the upstream models that get a route."""

    name: str
    entry: dict[str, object]
    models: tuple[str, ...]


async def discover(env: Mapping[str, str]) -> tuple[Found, ...]:
    """Return what the environment offers, vendors first; it takes at most 0.3 s."""
    vendors = tuple(_found(vendor) for vendor in VENDORS if env.get(vendor.key_variable))
    models = await ollama_models(OLLAMA_URL)
    if models is None:
        return vendors
    local = Found(name="ollama", entry={"kind": "ollama", "base_url": OLLAMA_URL}, models=models)
    return (*vendors, local)


async def ollama_models(url: str) -> tuple[str, ...] | None:
    """Return the models of an Ollama that can chat, None when none answers within 0.3 s."""
    timeout = aiohttp.ClientTimeout(total=OLLAMA_ANSWER_S)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as client:
            async with client.get(f"{url}/api/version") as answer:
                answer.raise_for_status()
            async with client.get(f"{url}/api/tags") as answer:
                answer.raise_for_status()
                return _names(await answer.read())
    except (aiohttp.ClientError, TimeoutError, OSError, msgspec.DecodeError):
        return None


class _Model(msgspec.Struct):
    name: str


class _Tags(msgspec.Struct):
    models: list[_Model] = []


def _names(body: bytes) -> tuple[str, ...]:
    names = (model.name for model in msgspec.json.decode(body, type=_Tags).models)
    return tuple(name for name in names if "embed" not in name)[:OLLAMA_MODELS]


def _found(vendor: Vendor) -> Found:
    # Optional, so that a copy of the generated file also loads where the key is missing.
    entry: dict[str, object] = {
        "kind": vendor.name,
        "api_key": f"${{{vendor.key_variable}}}",
        "optional": True,
    }
    return Found(name=vendor.name, entry=entry, models=vendor.models)
