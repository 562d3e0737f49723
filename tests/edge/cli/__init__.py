"""The `sluiceway` command, as a shell sees it."""
