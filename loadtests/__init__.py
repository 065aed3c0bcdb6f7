"""Load from outside: it may import the protocol only."""
