"""The Kubernetes files: what is rendered from them, what it may do, and whether it fits relay."""
