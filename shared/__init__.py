"""The gateway itself, in layers that import downwards only."""
