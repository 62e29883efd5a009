"""The custom resources of ragtenancy, and what its operator and its runtime agree on.

These pydantic models are the one source of truth: the CRDs under ``crds/`` and in the chart are
generated from them (``python -m ragtenancy_api.crd``), the operator plans from them, and the
runtime reads its tenants with them.
"""

from ragtenancy_api.binding import RAGBinding
from ragtenancy_api.deployment import RAGDeployment
from ragtenancy_api.meta import GROUP, VERSION
from ragtenancy_api.tenant import RAGTenant

__version__ = "0.1.0"

__all__ = ["GROUP", "VERSION", "RAGBinding", "RAGDeployment", "RAGTenant", "__version__"]
