"""Batches from file to files, on SQLite and on PostgreSQL."""
