"""What people would use instead of Tillwire, doing the same job on the same PostgreSQL."""
