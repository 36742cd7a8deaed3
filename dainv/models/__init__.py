"""Networks, and how to find one by name."""
