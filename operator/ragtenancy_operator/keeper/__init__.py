"""The keeper: looks after what no Kubernetes event tells of, in Weaviate and the state Redis."""
