"""A real one-node Kubernetes for machines without Docker; see docs/local-node.md."""
