"""What operators see: logs, metrics, and the ids that tie them to one request."""
