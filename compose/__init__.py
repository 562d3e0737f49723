"""How the parts are put together and run: the `sluiceway` command and the embedded stack."""
