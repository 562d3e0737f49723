"""Config files for tests."""

import textwrap
from collections.abc import Mapping

from shared.config.kinds import KindNeeds
from shared.config.load import Loaded, load_config
from shared.config.mistakes import ConfigError, Mistake

KINDS = {
    **dict.fromkeys(("openai", "anthropic", "ollama", "mock"), KindNeeds()),
    "server": KindNeeds(base_url=True),
    "vendor": KindNeeds(key=True),
}


def loaded(text: str, env: Mapping[str, str] | None = None) -> Loaded:
    """Return what a file comes to."""
    return load_config(textwrap.dedent(text).lstrip("\n"), env or {}, KINDS)


def mistakes(text: str, env: Mapping[str, str] | None = None) -> list[Mistake]:
    """Return the mistakes in a file, none if it is fine."""
    try:
        loaded(text, env)
    except ConfigError as error:
        return list(error.mistakes)
    return []


def told(text: str, env: Mapping[str, str] | None = None) -> list[str]:
    """Return the mistakes as people read them."""
    return [str(mistake) for mistake in mistakes(text, env)]


ROUTE = "{model: m, targets: [{provider: mock, model: x}]}"
MOCK = "providers: {mock: {kind: mock}}\n"


def with_route(keys: str) -> str:
    """Return a file of one good route with more keys, in flow style: `weight: 1, ...`."""
    return MOCK + f"routes:\n- {{model: m, targets: [{{provider: mock, model: x}}], {keys}}}\n"
