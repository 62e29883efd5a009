"""The web layer: translation between HTTP and the pipeline, and nothing else."""
