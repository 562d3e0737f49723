"""What a checked config allows and hardly anybody wants: told, never refused. Pure."""

import re
from collections.abc import Iterator

from shared.config.kinds import Kinds
from shared.config.mistakes import joined
from shared.config.model import Config, ProviderConfig

SHORT_KEY = 16
"""Letters of a tenant's key below which it can be guessed: 16 of hexadecimal are 64 bits."""

_BARE_VARIABLE = re.compile(r"\$[A-Za-z_][A-Za-z0-9_]*")
_KEY_HEADERS = frozenset({"authorization", "api-key", "x-api-key", "x-goog-api-key"})


def advice(config: Config, kinds: Kinds) -> tuple[str, ...]:
    """Return a sentence for each thing that is likely to be an oversight; no secret is in them."""
    return (*_keyless(config, kinds), *_short_keys(config), *_bare_variables(config))


def _keyless(config: Config, kinds: Kinds) -> Iterator[str]:
    for name, provider in config.providers.items():
        if kinds[provider.kind].key and not _has_key(provider):
            path = joined("providers", name)
            yield f"{path} has no api_key: {provider.kind} refuses calls without one"


def _has_key(provider: ProviderConfig) -> bool:
    given = {header.lower() for header in provider.headers}
    in_the_cloud = provider.project is not None  # its credentials come from the machine
    return bool(provider.api_key or provider.api_keys or given & _KEY_HEADERS or in_the_cloud)


def _short_keys(config: Config) -> Iterator[str]:
    for index, tenant in enumerate(config.tenants):
        for number, key in enumerate(tenant.keys):
            if len(key.key) < SHORT_KEY:
                yield (
                    f"tenants[{index}].keys[{number}].key is shorter than {SHORT_KEY} letters"
                    " and can be guessed"
                )


def _bare_variables(config: Config) -> Iterator[str]:
    """Yield a sentence for each key that is `$NAME`: only `${NAME}` is a variable."""
    places = [
        *(
            (joined("providers", name) + ".api_key", p.api_key)
            for name, p in config.providers.items()
        ),
        *(
            (f"{joined('providers', name)}.api_keys[{number}].key", key.key)
            for name, provider in config.providers.items()
            for number, key in enumerate(provider.api_keys)
        ),
        *(
            (f"tenants[{index}].keys[{number}].key", key.key)
            for index, tenant in enumerate(config.tenants)
            for number, key in enumerate(tenant.keys)
        ),
    ]
    for path, text in places:
        if text is not None and _BARE_VARIABLE.fullmatch(text):
            yield f"{path} is taken as it stands, with its dollar sign; a variable is ${{NAME}}"
