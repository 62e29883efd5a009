"""RAGDeployment: observe, plan, apply, status."""
