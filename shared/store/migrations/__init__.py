"""The history of the schema; applied by `shared.store.schema.migrate`."""
