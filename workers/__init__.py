"""The queue edge: actors, webhook delivery and caretakers."""
