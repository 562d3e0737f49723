"""Reasoning in OpenAI's dialect, which has no word of its own for it.

The text is `reasoning_content`, as DeepSeek began it. What a provider wants back unchanged stands
in `reasoning_details`, OpenRouter's form: clients that echo a message echo its proof with it.
"""

from collections.abc import Mapping, Sequence

from shared.chat.message import Reasoning
from shared.chat.response import ReasoningDelta

FORMATS: Mapping[str, str] = {
    "anthropic": "anthropic-claude-v1",
    "gemini": "google-gemini-v1",
    "openai_responses": "openai-responses-v1",
}
"""OpenRouter's names of what wrote a signature, by our dialects."""

_DIALECTS = {name: dialect for dialect, name in FORMATS.items()}


def render_details(reasoning: Sequence[Reasoning]) -> list[dict[str, object]]:
    """Return `reasoning_details`; empty where no provider wants anything back."""
    if all(piece.dialect is None for piece in reasoning):
        return []
    return [
        render_detail(
            ReasoningDelta(
                index=index,
                text=piece.text,
                signature=piece.signature,
                redacted=piece.redacted,
                dialect=piece.dialect,
                id=piece.id,
            ),
            first=True,
        )
        for index, piece in enumerate(reasoning)
    ]


def render_detail(delta: ReasoningDelta, *, first: bool) -> dict[str, object]:
    """Return one entry of `reasoning_details`.

    Clients join the texts of a stream's entries by `index`: what is said once stands in the `first`
    only.
    """
    detail: dict[str, object] = {"index": delta.index}
    if delta.redacted:
        detail |= {"type": "reasoning.encrypted", "data": delta.signature or ""}
    else:
        detail |= {"type": "reasoning.text"}
        if delta.text or first:
            detail["text"] = delta.text
        if delta.signature is not None:
            detail["signature"] = delta.signature
    if first:
        detail["format"] = FORMATS.get(delta.dialect or "", "unknown")
        if delta.id is not None:
            detail["id"] = delta.id
    return detail


def read_reasoning(text: str | None, details: object) -> tuple[Reasoning, ...]:
    """Return the pieces that a message carries; entries of no known form are passed over."""
    pieces = tuple(filter(None, map(_piece, details))) if isinstance(details, list) else ()
    if pieces:
        return pieces
    return (Reasoning(text=text),) if text is not None else ()


def _piece(detail: object) -> Reasoning | None:
    if not isinstance(detail, dict):
        return None
    known = _known(detail)
    match detail:
        case {"type": "reasoning.encrypted", "data": str(data)}:
            return Reasoning(signature=data, redacted=True, dialect=known, id=_text(detail, "id"))
        case {"type": "reasoning.summary", "summary": str(text)}:
            return Reasoning(text=text, dialect=known, id=_text(detail, "id"))
        case {"type": "reasoning.text"}:
            return Reasoning(
                text=_text(detail, "text") or "",
                signature=_text(detail, "signature"),
                dialect=known,
                id=_text(detail, "id"),
            )
        case _:
            return None


def _known(detail: Mapping[str, object]) -> str | None:
    return _DIALECTS.get(_text(detail, "format") or "")


def _text(detail: Mapping[str, object], name: str) -> str | None:
    found = detail.get(name)
    return found if isinstance(found, str) else None
