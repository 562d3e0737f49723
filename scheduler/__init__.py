"""The clock edge: a table of what runs when, and nothing else."""
