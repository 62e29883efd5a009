"""RAGBinding: what happens to it when its tenant is gone."""
