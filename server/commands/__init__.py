"""The sub-commands of `tillwire`."""
