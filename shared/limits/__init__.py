"""How many calls, tokens and slots a caller may take, counted over all processes."""
