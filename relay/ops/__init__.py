"""The ops page: static files over the status API."""
