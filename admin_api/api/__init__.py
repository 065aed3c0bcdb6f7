"""The operators' HTTP interface, version 1."""
