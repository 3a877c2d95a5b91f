"""What the vendors' adapters promise."""
