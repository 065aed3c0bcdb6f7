"""Real engines started by this process on loopback, for `tillwire up` and for tests."""
