"""The ragtenancy operator: makes RAGDeployments and RAGTenants so, and keeps them so.

Start with ``main.py`` (what is watched), then ``deployment/`` and ``tenant/`` (what is done).
"""
