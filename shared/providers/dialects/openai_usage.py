"""OpenAI's `usage` object, and what its imitators make of it, as our Usage.

Sources: OpenAI's types (prompt_tokens_details, completion_tokens_details), DeepSeek
(prompt_cache_hit_tokens), Mistral (num_cached_tokens), xAI (reasoning beside the completion),
Groq (`x_groq.usage`).
"""

from collections.abc import Mapping
from typing import Any

from shared.chat.usage import Usage


def usage_from(usage: object) -> Usage | None:
    """Return the counts, or None when there is no usable usage object.

    An explicit zero is a zero. Subsets are cut down to what they are a part of, so that prices
    never go negative.
    """
    if not isinstance(usage, Mapping):
        return None
    prompt = _count(usage, "prompt_tokens")
    completion = _count(usage, "completion_tokens")
    if prompt is None and completion is None:
        return None
    prompt, completion = prompt or 0, completion or 0
    inside = _part(usage, "prompt_tokens_details")
    outside = _part(usage, "completion_tokens_details")
    reasoning = _count(outside, "reasoning_tokens") or 0
    if _stands_beside(usage, prompt, completion, reasoning):
        completion += reasoning
    cache_read = min(_cache_read(usage, inside), prompt)
    cache_write = min(_count(inside, "cache_write_tokens") or 0, prompt - cache_read)
    return Usage(
        input_tokens=prompt,
        output_tokens=completion,
        cache_read_tokens=cache_read,
        cache_write_tokens=cache_write,
        reasoning_tokens=min(reasoning, completion),
        input_audio_tokens=min(
            _count(inside, "audio_tokens") or 0, prompt - cache_read - cache_write
        ),
        output_audio_tokens=min(_count(outside, "audio_tokens") or 0, completion),
    )


def usage_in(answer: Mapping[str, object]) -> object:
    """Return the raw usage object of an answer or chunk, wherever its vendor puts it."""
    usage = answer.get("usage")
    if usage is None:
        return _part(answer, "x_groq").get("usage")
    return usage


def _stands_beside(
    usage: Mapping[Any, object], prompt: int, completion: int, reasoning: int
) -> bool:
    """Whether reasoning is not inside the completion: xAI's chat sums all three."""
    total = _count(usage, "total_tokens")
    return bool(reasoning) and total == prompt + completion + reasoning


def _cache_read(usage: Mapping[Any, object], inside: Mapping[Any, object]) -> int:
    for place, name in (
        (inside, "cached_tokens"),
        (usage, "prompt_cache_hit_tokens"),
        (usage, "num_cached_tokens"),
    ):
        found = _count(place, name)
        if found is not None:
            return found
    return 0


def _part(mapping: Mapping[Any, object], name: str) -> Mapping[Any, object]:
    found = mapping.get(name)
    return found if isinstance(found, Mapping) else {}


def _count(mapping: Mapping[Any, object], name: str) -> int | None:
    found = mapping.get(name)
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None
    return int(found) if found >= 0 else None
