"""Which targets may serve a request, in which order; pure."""
