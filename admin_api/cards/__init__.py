"""Cards, batches of them, and their numbers."""
