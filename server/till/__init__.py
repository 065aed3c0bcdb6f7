"""A register on the command line."""
