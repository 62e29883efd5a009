"""Objects that unit tests start from."""

from typing import Any

from ragtenancy_api.deployment import RAGDeployment
from ragtenancy_operator.children.base import Context
from ragtenancy_operator.deployment import plan
from ragtenancy_operator.settings import Settings

DEPLOYMENT_UID = "0b9a2f2c-6d0e-4a58-9f5e-2a1c5f6d7e8f"
TENANT_UID = "7d1f0d36-50a5-4b8e-8a6c-3f5d1e2c4b6a"


def deployment_spec(**changes: Any) -> dict[str, Any]:
    """The smallest spec in which everything is managed."""
    spec: dict[str, Any] = {
        "vectorStore": {"weaviate": {"managed": {}}},
        "embedding": {"model": "org/embedder", "dimensions": 384, "vllm": {}},
        "generation": {"model": "org/chat", "maxModelLen": 2048, "vllm": {}},
        "state": {"redis": {"managed": {}}},
        "cache": {"redis": {"managed": {}}},
    }
    return spec | changes


def deployment(spec: dict[str, Any] | None = None, **status: Any) -> RAGDeployment:
    """A RAGDeployment main in namespace rag."""
    return RAGDeployment.model_validate(
        {
            "apiVersion": "ragtenancy.io/v1alpha1",
            "kind": "RAGDeployment",
            "metadata": {
                "name": "main",
                "namespace": "rag",
                "uid": DEPLOYMENT_UID,
                "generation": 1,
                "resourceVersion": "10",
            },
            "spec": spec or deployment_spec(),
            "status": status,
        }
    )


def context(spec: dict[str, Any] | None = None, **status: Any) -> Context:
    """The builders' context of that deployment."""
    made = deployment(spec, **status)
    return Context(made, plan.images(made, Settings().images), {})


def obj(kind: str, name: str, version: int = 1, **more: Any) -> dict[str, Any]:
    """Any object, as the API server would give it."""
    metadata = {
        "name": name,
        "namespace": more.pop("namespace", "rag"),
        "uid": more.pop("uid", f"uid-of-{name}"),
        "resourceVersion": str(version),
        "labels": more.pop("labels", {}),
    }
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata, **more}
