"""What OpenAI's own models take, by the names of their families, and the steps that see to it.

Sources: OpenAI's API reference and model pages, state of November 2026. A name that says nothing
(an Azure deployment's) is taken as it is; `capabilities` of a target say otherwise.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

import msgspec

from shared.providers.dialects.openai_checks import calls_answered, pictures_readable
from shared.providers.dialects.openai_draft import Draft, Step, drops
from shared.providers.dialects.openai_messages import (
    developer_as_system,
    refusals_as_text,
    refuses_file_urls,
    short_call_ids,
    thoughts_as,
    without_cache_marks,
    without_call_extras,
)
from shared.providers.dialects.openai_tools import no_idle_tool_fields, safe_tool_names

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
"""From least to most."""

MOST_STOPS = 4
ID_LENGTH = 40
"""Characters of a tool call's id that OpenAI takes."""

_SAMPLING = ("temperature", "top_p", "presence_penalty", "frequency_penalty", "logprobs",
             "top_logprobs", "logit_bias")  # fmt: skip
_FOREIGN = ("top_k", "top_a", "min_p", "repetition_penalty", "thinking", "reasoning", "provider",
            "transforms", "safe_prompt", "prompt_mode", "random_seed", "include_reasoning",
            "reasoning_format", "chat_template_kwargs", "enable_thinking")  # fmt: skip
"""Other vendors' extensions that OpenAI answers with 400; a field that nobody knows goes on."""

_GPT = re.compile(r"(?:^|[^a-z])gpt-(\d+)(?:\.(\d+))?(?![\d.])([a-z0-9.\-]*)")
_O = re.compile(r"(?:^|[^a-z0-9])o([1-9])(-mini|-pro|-preview)?(?![a-z0-9])")


class Family(msgspec.Struct, frozen=True, kw_only=True):
    """What a family of models takes. `known` is False for a name that tells nothing.

    `free_without_effort`: sampling fields are taken while nothing is to be thought.
    """

    known: bool = True
    reasons: bool = False
    efforts: tuple[str, ...] = ()
    free_without_effort: bool = False
    stops: bool = True


_UNKNOWN = Family(known=False)


@lru_cache(maxsize=1024)
def family_of(model: str) -> Family:
    """Return what a model of this name takes."""
    name = model.lower()
    if (found := _O.search(name)) is not None:
        early = found[1] == "1" or (found[1] == "3" and found[2] == "-mini")
        return Family(reasons=True, efforts=("low", "medium", "high"), stops=early)
    if (found := _GPT.search(name)) is None:
        return _UNKNOWN
    version = (int(found[1]), int(found[2] or 0))
    if version < (5, 0) or "-chat" in found[3]:
        return Family()
    if version == (5, 0):
        efforts: tuple[str, ...] = ("minimal", "low", "medium", "high")
    elif version == (5, 1):
        efforts = ("none", "low", "medium", "high")
    else:
        efforts = ("none", "low", "medium", "high", "xhigh")
    return Family(reasons=True, efforts=efforts, free_without_effort=version > (5, 0), stops=False)


def nearest_effort(effort: str, allowed: Sequence[str]) -> str:
    """Return the allowed word that comes nearest; of two equally near the one that thinks more.

    A word of no known rank is left as it is, for the vendor to refuse.
    """
    if effort in allowed or effort not in EFFORTS or not allowed:
        return effort
    rank = EFFORTS.index(effort)
    return min(
        sorted(allowed, key=EFFORTS.index, reverse=True),
        key=lambda word: abs(EFFORTS.index(word) - rank),
    )


def reasoning_models(draft: Draft) -> None:
    """Reasoning models take `max_completion_tokens`, and no field about sampling."""
    family = family_of(draft.model)
    _fit_effort(draft, family)
    if not family.reasons:
        return
    if draft.has("max_tokens") and not draft.can("max_tokens", default=False):
        draft.rename("max_tokens", "max_completion_tokens")
    effort = draft.read("reasoning_effort") if draft.has("reasoning_effort") else None
    if not (family.free_without_effort and effort in (None, "none")):
        for name in _SAMPLING:
            draft.drop(name)
    if not family.stops:
        draft.drop("stop")


def _fit_effort(draft: Draft, family: Family) -> None:
    """Callers of OpenAI's dialect know their model's words; those of others do not."""
    if not family.known or not draft.has("reasoning_effort"):
        return
    if not family.reasons:
        draft.drop("reasoning_effort")
        return
    effort = draft.read("reasoning_effort")
    if isinstance(effort, str) and (draft.translated or effort == "max"):
        draft.body["reasoning_effort"] = nearest_effort(effort, family.efforts)


def efforts_by(*rows: tuple[str, Sequence[str] | Mapping[str, str]]) -> Step:
    """Return a step that fits `reasoning_effort` to the first row whose pattern is in the name.

    A row gives the words that its models take, or what becomes of each word, `*` standing for any
    other. Models of no row, or of one without words, are not asked.
    """
    table = tuple((re.compile(pattern), words) for pattern, words in rows)

    def step(draft: Draft) -> None:
        if not draft.has("reasoning_effort") or draft.can("reasoning_effort", default=False):
            return
        effort = str(draft.read("reasoning_effort"))
        name = draft.model.lower()
        words = next((words for pattern, words in table if pattern.search(name)), ())
        if not words:
            draft.drop("reasoning_effort")
        elif isinstance(words, Mapping):
            draft.body["reasoning_effort"] = words.get(effort, words["*"])
        else:
            draft.body["reasoning_effort"] = nearest_effort(effort, words)

    return step


def few_stops(draft: Draft) -> None:
    """OpenAI takes four stop sequences."""
    if draft.has("stop"):
        stop = draft.read("stop")
        if isinstance(stop, list) and len(stop) > MOST_STOPS:
            draft.note("stop")
            draft.body["stop"] = stop[:MOST_STOPS]


def made_id(old: str, tries: int) -> str:
    """Return an id of OpenAI's form for one that is too long."""
    return "call_" + hashlib.blake2b(f"{old}#{tries}".encode(), digest_size=12).hexdigest()


CHECKS: tuple[Step, ...] = (calls_answered, pictures_readable)
"""What nobody can answer is asked of nobody."""

LENIENT: tuple[Step, ...] = (*CHECKS, no_idle_tool_fields, safe_tool_names, developer_as_system)
"""What every imitator needs."""

IMITATOR: tuple[Step, ...] = (*LENIENT, without_cache_marks, refusals_as_text)
"""What those need that know no extension of anybody else's."""

OPENAI: tuple[Step, ...] = (
    *CHECKS,
    no_idle_tool_fields,
    safe_tool_names,
    reasoning_models,
    few_stops,
    refuses_file_urls,
    without_cache_marks,
    thoughts_as(None),
    without_call_extras,
    short_call_ids(lambda one: len(one) <= ID_LENGTH, made_id),
    drops(*_FOREIGN),
)
"""OpenAI's and Azure's."""
