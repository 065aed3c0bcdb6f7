"""The benchmark: Tillwire beside what people would use instead, in one run, on one machine (docs/performance.md)."""
