"""What commands need that work straight in the database: its store, and the config file."""

import os
from typing import TYPE_CHECKING

from compose.console import say
from shared.config.mistakes import ConfigError
from shared.config.model import Config
from shared.settings import Settings

if TYPE_CHECKING:
    from shared.store.engine import Store


class Opened:
    """The store of a command, checked to have the newest schema."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._store: Store | None = None

    async def __aenter__(self) -> "Store":
        from shared.store.engine import open_store

        self._store = await open_store(self._settings.database_url)
        try:
            await self._store.check_schema()
        except BaseException:
            await self._store.close()
            raise
        return self._store

    async def __aexit__(self, *_error: object) -> None:
        if self._store is not None:
            await self._store.close()


def config_of(settings: Settings) -> Config:
    """Return the config file's content; a wrong file is said and counts as empty."""
    from shared.config.load import load_config
    from shared.providers.registry import kinds

    if settings.config_path is None:
        return Config()
    try:
        return load_config(settings.config_path, os.environ, kinds()).config
    except ConfigError as error:
        first = f"{settings.config_path} has mistakes, so it is left out"
        say("warning", [f"{first}: {error.mistakes[0]}; see: sluiceway check-config"])
        return Config()
