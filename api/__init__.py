"""The HTTP edge: handlers, authentication, the table of error statuses, server-sent events."""
