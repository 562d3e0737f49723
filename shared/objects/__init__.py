"""Bytes too large for rows: files of callers, outputs of batches, long answers."""
