"""Files that callers send and batches make: a row and an object that come and go together."""
