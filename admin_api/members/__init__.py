"""Members: personal data, its changes, and what a member does himself."""
