"""The database: SQL rows in, Structs out; nobody else sees a table."""
