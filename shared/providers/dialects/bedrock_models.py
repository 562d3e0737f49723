"""What the model families on Bedrock can be asked through Converse: one row each.

Sources: the service's pages on supported models and features, and its refusals, state of
November 2026. A model that no row knows is asked for nothing special.
"""

import re
from functools import lru_cache
from typing import Literal

import msgspec

from shared.providers.dialects.anthropic_models import Quirks, quirks_of


class Family(msgspec.Struct, frozen=True, kw_only=True):
    """What one family takes.

    `system`: a system text of its own. `forced`: a tool choice other than auto. `schemas`: answers
    bound to a JSON Schema. `caches`: marks for its prompt cache, `caches_tools`: among the tools
    too. `lone_results`: nothing may stand beside tool results. `json_results`: results that are
    JSON objects go as such. `result_status`, `result_images`: these may be sent with results.
    `prefill`: the history may end with the assistant. `audio`: it hears. `thinks`: how reasoning is
    asked for. `top_k`: where that may be sent, from the outside in. `claude`: of Anthropic's only.
    """

    system: bool = True
    forced: bool = False
    schemas: bool = False
    caches: bool = False
    caches_tools: bool = False
    lone_results: bool = False
    json_results: bool = False
    result_status: bool = True
    result_images: bool = False
    prefill: bool = False
    audio: bool = False
    thinks: Literal["nova", "effort"] | None = None
    top_k: tuple[str, ...] = ()
    claude: Quirks | None = None

    @property
    def signs(self) -> str | None:
        """The dialect whose proofs of thought this family makes and wants back."""
        if self.claude is not None:
            return "anthropic"
        return "bedrock" if self.thinks == "nova" else None


_CLAUDE = Family(caches=True, caches_tools=True, result_images=True, top_k=("top_k",))
_NOVA = Family(forced=True, caches=True, result_images=True, top_k=("inferenceConfig", "topK"))
_NOVA_2 = msgspec.structs.replace(_NOVA, thinks="nova")
_MISTRAL = Family(lone_results=True, json_results=True)
_LARGE = msgspec.structs.replace(_MISTRAL, forced=True, top_k=("top_k",))

_ROWS = (
    (r"amazon\.nova-2-omni", msgspec.structs.replace(_NOVA_2, audio=True)),
    (r"amazon\.nova-2", _NOVA_2),
    (r"amazon\.nova", _NOVA),
    (r"amazon\.titan-text|cohere\.command-(light-)?text", Family(system=False)),
    (r"mistral\.(mistral-7b|mixtral-8x7b)", msgspec.structs.replace(_MISTRAL, system=False)),
    (r"mistral\.voxtral", msgspec.structs.replace(_LARGE, schemas=True, audio=True)),
    (
        r"mistral\.(mistral-large-3|ministral|magistral)",
        msgspec.structs.replace(_LARGE, schemas=True),
    ),
    (r"mistral\.mistral-large", _LARGE),
    (r"mistral\.", _MISTRAL),
    (r"meta\.llama", Family(lone_results=True)),
    (r"writer\.palmyra", Family(result_status=False)),
    (r"openai\.gpt-oss|qwen\.qwen3|deepseek\.v3", Family(schemas=True, thinks="effort")),
    (r"google\.gemma-3|minimax\.|moonshot|nvidia\.nemotron", Family(schemas=True)),
)
_COMPILED = tuple((re.compile(pattern), family) for pattern, family in _ROWS)
_NO_CACHE = re.compile(
    r"claude-3-(opus|sonnet|haiku)|claude-3-5-sonnet-20240620|claude-(v2|instant)"
)
_NO_SCHEMA = re.compile(r"claude-opus-4-1")
"""Claude's models that can less here than at Anthropic."""


@lru_cache(maxsize=512)
def family_of(model: str) -> Family:
    """Return what a model takes, by its id, an inference profile's id, or an ARN that holds one."""
    lowered = model.lower()
    if "claude" in lowered:
        return _claude(lowered)
    return next((family for row, family in _COMPILED if row.search(lowered)), Family())


def _claude(model: str) -> Family:
    quirks = quirks_of(model)
    caches = _NO_CACHE.search(model) is None
    return msgspec.structs.replace(
        _CLAUDE,
        forced=quirks.forces_tools,
        schemas=quirks.schema and _NO_SCHEMA.search(model) is None,
        caches=caches,
        caches_tools=caches,
        prefill=quirks.prefill,
        claude=quirks,
    )
