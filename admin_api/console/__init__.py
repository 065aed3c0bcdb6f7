"""The web pages of operators."""
