"""Providers on real sockets that speak their own wire formats, told by scenes what to say."""
