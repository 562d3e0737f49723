"""The canonical language every dialect is translated to; pure."""
