"""Gemini's `usageMetadata` as our Usage.

Prompt tokens include the cached ones; thoughts stand beside the candidates' tokens, not inside.
"""

from collections.abc import Mapping

import msgspec

from shared.chat.usage import Usage
from shared.providers.dialects.gemini_wire import Modality, UsageMetadata

_FIELDS = UsageMetadata.__struct_fields__
_TIERS = {
    "standard": "default",
    "on_demand_flex": "flex",
    "on_demand_priority": "priority",
}
"""Google's names of tiers and traffic as OpenAI's; an unknown tier stays as it is."""


def merged(known: UsageMetadata | None, newer: UsageMetadata | None) -> UsageMetadata | None:
    """Return the last count of each kind: chunks repeat them, correct them, or leave them out."""
    if known is None or newer is None:
        return newer or known
    said = {name: value for name in _FIELDS if (value := getattr(newer, name)) is not None}
    return msgspec.structs.replace(known, **said)


def usage_of(wire: UsageMetadata | None, web_searches: int = 0) -> Usage | None:
    """Return the counts, None when neither side is counted; subsets never pass their whole."""
    if wire is None or (wire.prompt_token_count is None and wire.candidates_token_count is None):
        return None
    prompt = _count(wire.prompt_token_count) + _count(wire.tool_use_prompt_token_count)
    thoughts = _count(wire.thoughts_token_count)
    completion = _count(wire.candidates_token_count) + thoughts
    cached = min(_count(wire.cached_content_token_count), prompt)
    kept = min(_of("AUDIO", wire.cache_tokens_details), cached)
    heard = _of("AUDIO", wire.prompt_tokens_details) - kept
    heard = min(max(heard, 0), prompt - cached)
    seen = _of("IMAGE", wire.prompt_tokens_details) - _of("IMAGE", wire.cache_tokens_details)
    said = completion - thoughts
    spoken = min(_of("AUDIO", wire.candidates_tokens_details), said)
    return Usage(
        input_tokens=prompt,
        output_tokens=completion,
        cache_read_tokens=cached,
        cache_read_audio_tokens=kept,
        reasoning_tokens=thoughts,
        input_audio_tokens=heard,
        input_image_tokens=min(max(seen, 0), prompt - cached - heard),
        output_audio_tokens=spoken,
        output_image_tokens=min(_of("IMAGE", wire.candidates_tokens_details), said - spoken),
        web_searches=web_searches,
        service_tier=_tier(wire),
    )


def tier_in(headers: Mapping[str, str]) -> str | None:
    """Return the tier that an answer's headers tell; its counts do not always."""
    told = headers.get("x-gemini-service-tier")
    return _named(told) if told else None


def _tier(wire: UsageMetadata) -> str | None:
    if wire.service_tier is not None:
        return _named(wire.service_tier)
    return _TIERS.get((wire.traffic_type or "").lower())


def _named(tier: str) -> str:
    named = tier.lower()
    return _TIERS.get(named, named)


def _of(modality: str, details: list[Modality] | None) -> int:
    return sum(_count(found.token_count) for found in details or () if found.modality == modality)


def _count(found: int | None) -> int:
    return found or 0
