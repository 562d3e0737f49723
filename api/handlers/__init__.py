"""The HTTP functions beside the inference routes, one module a group."""
