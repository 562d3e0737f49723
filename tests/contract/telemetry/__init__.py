"""Telemetry against the real thing: pipes, files, sockets, processes."""
