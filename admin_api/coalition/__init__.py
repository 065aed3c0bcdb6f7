"""Who takes part: partners, their networks and stores, and the terminals in them."""
