"""One file per provider: its host, auth, dialect and quirks; the registry finds them."""
