"""The wire: a sans-I/O core and two clients over it; SPEC.md is normative."""
