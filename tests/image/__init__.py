"""The container image: built on a base made here, and run as strictly as it can be. `make verify-image` runs these."""
