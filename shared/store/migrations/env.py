"""Run by Alembic with the connection that `shared.store.schema` put into the config."""

from alembic import context

from shared.store import side_tables

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=side_tables.idempotency_key.metadata,
    transactional_ddl=True,
    on_version_apply=context.config.attributes["on_version_apply"],
)
with context.begin_transaction():
    context.run_migrations()
