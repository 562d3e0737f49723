"""The books on disk and in SQL."""
