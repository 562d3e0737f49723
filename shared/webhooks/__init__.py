"""Facts told to callers: the events, their signatures, when to try again, and where not to go."""
