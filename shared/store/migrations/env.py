"""Run by Alembic with the connection that `shared.store.schema` put into the config."""

from alembic import context

from shared.store import money_tables, side_tables
from shared.store.tables import metadata

__all__ = ["money_tables", "side_tables"]  # importing them adds their tables to the metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
    on_version_apply=context.config.attributes["on_version_apply"],
)
with context.begin_transaction():
    context.run_migrations()
