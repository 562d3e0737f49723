"""What Google counts as searches of the web: prompts up to Gemini 2.5, queries since Gemini 3."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

_BY_PROMPT = re.compile(r"gemini-(1|2|pro|flash)\b")


def queries_of(grounding: Mapping[str, Any]) -> list[str]:
    """Return the searches that a candidate's grounding names; empty ones are not charged."""
    queries = grounding.get("webSearchQueries")
    found = queries if isinstance(queries, list) else []
    return [query for query in found if query and isinstance(query, str)]


def searches(model: str, asked: Iterable[list[str]]) -> int:
    """Return how many searches are charged for the queries of all candidates."""
    made = {query for queries in asked for query in queries}
    return min(len(made), 1) if _BY_PROMPT.search(model) else len(made)
