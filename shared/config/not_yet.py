"""What the file may say and this version does not do; never ignored in silence.

The table is the list: who makes a feature work removes its row, and nothing else. Pure.
"""

from collections.abc import Callable, Iterator

import msgspec

from shared.config.model import Config

Places = Iterator[str]
"""The paths at which a file uses a feature."""

_OWN_DIALECTS = frozenset({"anthropic", "bedrock", "cohere", "gemini", "mock", "ollama"})
"""Kinds whose bodies are not fitted field by field, as those of OpenAI's dialect are."""


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """A feature that is read and not obeyed; `effect` says what happens instead."""

    feature: str
    effect: str
    places: Callable[[Config], Places]


def not_yet(config: Config) -> tuple[str, ...]:
    """Return a sentence for each feature that the config uses and this version lacks."""
    found = ((gap, list(gap.places(config))) for gap in GAPS)
    return tuple(
        f"not in this version yet: {gap.feature} ({_listed(places)}); {gap.effect}"
        for gap, places in found
        if places
    )


def _listed(places: list[str], most: int = 3) -> str:
    more = len(places) - most
    return ", ".join(places[:most]) + (f" and {more} more" if more > 0 else "")


def _capabilities(config: Config) -> Places:
    for route in config.routes:
        for number, target in enumerate(route.targets):
            provider = config.providers.get(target.provider)
            unread = target.capabilities.keys() - {"prefill"}
            if unread and provider is not None and provider.kind in _OWN_DIALECTS:
                yield f'routes["{route.model}"].targets[{number}].capabilities'


GAPS: tuple[Gap, ...] = (
    Gap(
        feature="declared capabilities of providers with a dialect of their own",
        effect="they are not consulted",
        places=_capabilities,
    ),
    Gap(
        feature="trusted proxies",
        effect="forwarded addresses are ignored",
        places=lambda config: iter(
            ["server.trusted_proxies"] if config.server.trusted_proxies else []
        ),
    ),
)
"""Remove a row when its feature works."""
