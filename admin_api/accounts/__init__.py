"""Accounts: what is in them, what happened to them, and what operators change."""
