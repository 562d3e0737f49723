"""What `sluiceway.yaml` says: the structs, and the loader that lists every mistake."""
