"""The config file: what it may say, and how mistakes in it are told."""
