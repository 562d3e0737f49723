"""One suite per port, run once per implementation."""
