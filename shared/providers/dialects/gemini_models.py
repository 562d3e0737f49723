"""What each family of Google's models can be asked; read off the model's name.

Sources: Google's model and thinking guides, state of November 2026; measured refusals of peers.
A name that tells no version (a tuned model, Gemma, an endpoint's number) gets plain requests.
"""

import re
from functools import lru_cache

import msgspec

from shared.chat.request import Thinking

_VERSION = re.compile(r"gemini-(\d+)(?:\.(\d+))?")
_LATEST = re.compile(r"gemini-(?:pro|flash|flash-lite)-latest$")

_BUDGETS = {"minimal": 1_024, "low": 1_024, "medium": 8_192, "high": 24_576}
"""Tokens for each effort, as Google's own OpenAI surface translates it."""

_LOW_TOKENS, _MEDIUM_TOKENS = 2_048, 12_288
"""Budgets up to these are the efforts of models that count none."""

_DYNAMIC = -1
"""Google's budget of a model that decides for itself."""


class Gemini(msgspec.Struct, frozen=True, kw_only=True):
    """One model on one surface: Vertex, or else the Developer API.

    `version` is (major, minor), (0, 0) where the name does not tell it.
    """

    name: str
    version: tuple[int, int] = (0, 0)
    vertex: bool = False

    @property
    def third(self) -> bool:
        """Generation 3 or later: levels of thinking, proofs of thought, media in results."""
        return self.version >= (3, 0)

    @property
    def thinks(self) -> bool:
        """Whether it can be told how much to think."""
        return self.version >= (2, 5)

    @property
    def reads_urls(self) -> bool:
        """Whether it reads files at web addresses by itself."""
        return self.vertex or self.version >= (2, 5)

    @property
    def takes_penalties(self) -> bool:
        """Whether it takes presence and frequency penalties; those that do not answer 400."""
        return not self.third and "2.5-pro-preview-06-05" not in self.name

    def thinking(self, asked: Thinking) -> dict[str, object]:
        """Return its `thinkingConfig`: a level or a budget, never both. Needs `thinks`."""
        effort = _effort(asked)
        config = {} if effort is None else self._amount(effort, asked.budget_tokens)
        if asked.budget_tokens == _DYNAMIC and not self.third:
            config = {"thinkingBudget": _DYNAMIC}
        wants_text = asked.summary not in {None, "omitted"}
        thinking = effort not in {None, "none"} or bool(asked.enabled)
        if wants_text or (thinking and asked.summary is None):
            config["includeThoughts"] = True
        return config

    def _amount(self, effort: str, budget_tokens: int | None) -> dict[str, object]:
        if self.third:
            return {"thinkingLevel": self._level(effort)}
        if effort == "none":
            # Pro thinks whatever it is told.
            return {"thinkingBudget": 0 if "flash" in self.name else 128}
        if budget_tokens is None:
            return {"thinkingBudget": _BUDGETS.get(effort, self._most)}
        least = 512 if "lite" in self.name else 128 if "pro" in self.name else 1
        return {"thinkingBudget": min(max(budget_tokens, least), self._most)}

    def _level(self, effort: str) -> str:
        if "flash" not in self.name and effort in {"none", "minimal"}:
            return "LOW"
        if "flash" not in self.name and self.version == (3, 0) and effort == "medium":
            return "HIGH"
        levels = {"none": "MINIMAL", "minimal": "MINIMAL", "low": "LOW", "medium": "MEDIUM"}
        return levels.get(effort, "HIGH")

    @property
    def _most(self) -> int:
        return 24_576 if "flash" in self.name else 32_768


@lru_cache(maxsize=256)
def gemini(model: str, *, vertex: bool = False) -> Gemini:
    """Return what a model of this name can do."""
    name = model.rpartition("/")[2].lower()
    if _LATEST.search(name):
        return Gemini(name=name, version=(3, 1), vertex=vertex)
    found = _VERSION.search(name)
    version = (int(found[1]), int(found[2] or 0)) if found else (0, 0)
    return Gemini(name=name, version=version, vertex=vertex)


def _effort(asked: Thinking) -> str | None:
    if asked.enabled is False:
        return "none"
    if asked.effort is not None or asked.budget_tokens in {None, _DYNAMIC}:
        return asked.effort
    if not asked.budget_tokens:
        return "none"
    if asked.budget_tokens <= _LOW_TOKENS:
        return "low"
    return "medium" if asked.budget_tokens <= _MEDIUM_TOKENS else "high"
