"""Answers that have been given before, to be given again to the same question."""
