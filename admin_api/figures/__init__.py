"""Figures: gathered, kept by step, told with their usual band."""
