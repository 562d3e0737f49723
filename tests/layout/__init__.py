"""Rules about the repository itself: sizes, names, places, and docs that match the code."""
