"""What an SDK would read from the wire, dialect by dialect, in none of the product's code."""
