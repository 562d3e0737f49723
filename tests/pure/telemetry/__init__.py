"""Logs without secrets, metrics with closed labels."""
