"""The product imported once, to fork processes from: most of a start is importing.

`tests.fakes.forked` has multiprocessing's fork server import this module.
"""

import gc
import pkgutil
from importlib import import_module
from pathlib import Path

PRODUCT = ("api", "workers", "scheduler", "shared", "compose")
LAZY = ("psycopg", "sqlalchemy.dialects.postgresql.psycopg", "uvicorn.lifespan.off")
"""What a start imports besides, by name and only then."""
MIGRATIONS = "shared.store.migrations"
"""Alembic loads these in its own way."""


_root = Path(__file__).parents[2]
for _package in PRODUCT:
    for _found in pkgutil.walk_packages([str(_root / _package)], f"{_package}."):
        if not _found.name.startswith(MIGRATIONS):
            import_module(_found.name)
for _name in LAZY:
    import_module(_name)
# What a collection touches must be copied: forks share the rest.
gc.collect()
gc.freeze()
