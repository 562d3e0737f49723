"""Finds the adapters: every module in `adapters/` names its own in `ADAPTERS`."""

import importlib
import pkgutil
from collections.abc import Iterable, Mapping
from functools import cache
from types import MappingProxyType

from shared.config.kinds import KindNeeds, Kinds
from shared.errors import OwnFault
from shared.providers import adapters
from shared.providers.adapter import Adapter


def by_kind(found: Iterable[Adapter]) -> Mapping[str, Adapter]:
    """Return the adapters by their kind.

    Raises:
        OwnFault: two claim the same kind.
    """
    table: dict[str, Adapter] = {}
    for adapter in found:
        if adapter.kind in table:
            raise OwnFault(f"Two adapters claim the provider kind {adapter.kind!r}.")
        table[adapter.kind] = adapter
    return MappingProxyType(table)


@cache
def all_adapters() -> Mapping[str, Adapter]:
    """Return every adapter of the package by kind; found once per process."""
    modules = [
        importlib.import_module(f"{adapters.__name__}.{module.name}")
        for module in pkgutil.iter_modules(adapters.__path__)
    ]
    return by_kind(adapter for module in modules for adapter in module.ADAPTERS)


def kinds() -> Kinds:
    """Return every `kind` that a provider may have in the config file, with what it needs there."""
    return {
        kind: KindNeeds(base_url=adapter.needs_base_url, key=adapter.needs_key)
        for kind, adapter in all_adapters().items()
    }


def adapter_for(kind: str) -> Adapter:
    """Return the adapter of a kind.

    Raises:
        OwnFault: no adapter claims it; the config check should have said so.
    """
    adapter = all_adapters().get(kind)
    if adapter is None:
        raise OwnFault(f"No adapter for the provider kind {kind!r}.")
    return adapter
