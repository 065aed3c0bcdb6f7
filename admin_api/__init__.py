"""The thin HTTP layer over the ledger."""
