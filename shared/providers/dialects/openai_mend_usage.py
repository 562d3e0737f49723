"""Usage objects of OpenAI's imitators in OpenAI's own form."""

from typing import Any

Json = dict[str, Any]


def mended_usage(answer: Json) -> Json | None:
    """Return the usage of an answer or chunk as OpenAI would give it; None if it does already.

    Groq's under `x_groq`; cache hits as DeepSeek and Mistral count them; xAI's reasoning, which is
    told by the sums, never by the vendor's name.
    """
    usage = answer.get("usage")
    found = usage if isinstance(usage, dict) else _of_groq(answer)
    if found is None:
        return None
    mended = _with_cache_hits(_with_reasoning(found))
    return None if mended is usage else mended


def _of_groq(answer: Json) -> Json | None:
    vendor = answer.get("x_groq")
    usage = vendor.get("usage") if isinstance(vendor, dict) else None
    return usage if isinstance(usage, dict) else None


def _with_reasoning(usage: Json) -> Json:
    """Return the completion with the reasoning inside, where the total says it stands beside."""
    reasoning = _count(_part(usage, "completion_tokens_details").get("reasoning_tokens"))
    prompt, completion = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
    if not reasoning or usage.get("total_tokens") != prompt + completion + reasoning:
        return usage
    return {**usage, "completion_tokens": completion + reasoning}


def _with_cache_hits(usage: Json) -> Json:
    inside = _part(usage, "prompt_tokens_details")
    if inside.get("cached_tokens") is not None:
        return usage
    for name in ("prompt_cache_hit_tokens", "num_cached_tokens"):
        if isinstance(usage.get(name), int):
            details = {**inside, "cached_tokens": usage[name]}
            return {**usage, "prompt_tokens_details": details}
    return usage


def _part(usage: Json, name: str) -> Json:
    found = usage.get(name)
    return found if isinstance(found, dict) else {}


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
