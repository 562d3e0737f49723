"""Everything that shows the promises hold; not part of the wheel."""
