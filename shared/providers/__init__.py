"""Providers: one Exchange per attempt, whatever the vendor's host, auth and wire format."""
