"""What Gemini tells besides: sources as annotations, probabilities of tokens, the rest as it is."""

from typing import Any

import msgspec

from shared.providers.dialects.gemini_wire import Candidate

Json = dict[str, Any]

_KEPT = {
    "safety_ratings": "safetyRatings",
    "citation_metadata": "citationMetadata",
    "grounding_metadata": "groundingMetadata",
    "url_context_metadata": "urlContextMetadata",
    "avg_logprobs": "avgLogprobs",
}
_NEVER = -9999.0
"""OpenAI's logarithm of next to nothing; Google writes infinities and others as text."""


def kept(candidate: Candidate) -> Json:
    """Return a candidate's extras in Google's words."""
    return {
        google: its
        for name, google in _KEPT.items()
        if (its := getattr(candidate, name)) is not None
    }


def annotations_of(grounding: Json, text: str) -> tuple[Json, ...]:
    """Return the web sources as OpenAI's URL citations; those of no passage cite nothing in it.

    Google counts a passage in UTF-8 bytes of `text`, OpenAI in characters.
    """
    sources = [chunk.get("web") or {} for chunk in _dicts(grounding.get("groundingChunks"))]
    cited: list[Json] = []
    for support in _dicts(grounding.get("groundingSupports")):
        segment = support.get("segment") or {}
        cited += [
            _citation(sources[number], _characters(text, segment))
            for number in support.get("groundingChunkIndices") or ()
            if isinstance(number, int) and 0 <= number < len(sources)
        ]
    return tuple(cited) or tuple(_citation(source, (0, 0)) for source in sources)


def logprobs_of(result: Json) -> tuple[Json, ...]:
    """Return the tokens' log probabilities as OpenAI lists them."""
    chosen = _dicts(result.get("chosenCandidates"))
    ranked = _dicts(result.get("topCandidates"))
    others = [_dicts(top.get("candidates")) for top in ranked]
    return tuple(
        {**_token(one), "top_logprobs": [_token(top) for top in (others[at : at + 1] or [[]])[0]]}
        for at, one in enumerate(chosen)
    )


def arguments_text(raw: msgspec.Raw) -> str:
    """Return a call's arguments as JSON text without white space, numbers as they were written."""
    text = msgspec.json.format(bytes(raw) or b"{}", indent=-1).decode()
    return "{}" if text == "null" else text


def _token(found: Json) -> Json:
    token, logprob = str(found.get("token", "")), found.get("logProbability", 0.0)
    return {
        "token": token,
        "logprob": _NEVER if isinstance(logprob, str) else logprob,
        "bytes": list(token.encode()),
    }


def _citation(source: Json, at: tuple[int, int]) -> Json:
    cited = {
        "start_index": at[0],
        "end_index": at[1],
        "url": source.get("uri", ""),
        "title": source.get("title", ""),
    }
    return {"type": "url_citation", "url_citation": cited}


def _characters(text: str, segment: Json) -> tuple[int, int]:
    encoded = text.encode()
    first, last = (segment.get(name) or 0 for name in ("startIndex", "endIndex"))
    return (
        len(encoded[:first].decode("utf-8", "ignore")),
        len(encoded[:last].decode("utf-8", "ignore")),
    )


def _dicts(found: object) -> list[Json]:
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
