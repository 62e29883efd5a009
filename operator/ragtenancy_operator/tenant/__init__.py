"""RAGTenant: observe, plan, apply, status."""
