"""Work that outlives a request: accepted once, run under a lease, always brought to an end."""
