"""The doorbell: tells workers to look in the tables, and may be lost, doubled or late."""
