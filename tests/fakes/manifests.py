"""Objects as the operator would have written them, for tests of the runtime."""

import hashlib
from typing import Any
from uuid import UUID, uuid5

from ragtenancy_api.meta import API_VERSION
from ragtenancy_api.wiring import SHARED_TENANT
from tests.fakes.openai import DIMENSIONS

DOCUMENTS, CHUNKS = "RuntimeDocuments", "RuntimeChunks"
CHAT_MODEL, EMBEDDING_MODEL = "fake/chat", "fake/embedding"
NAMESPACE, DEPLOYMENT = "rag", "main"


def uid_of(name: str) -> str:
    """The uid of a tenant of the tests."""
    return str(uuid5(UUID(int=0), name))


def key_of(name: str) -> str:
    """The API key of a tenant of the tests."""
    return f"rag-{name}-0123456789abcdef"


def deployment_manifest(url: str) -> dict[str, Any]:
    """A RAGDeployment whose parts are all external."""
    redis = {"redis": {"external": {"urlSecretRef": {"name": "redis", "key": "url"}}}}
    external = {"httpUrl": "http://weaviate:80", "grpcUrl": "grpc://weaviate:50051"}
    embedding = {"model": EMBEDDING_MODEL, "dimensions": DIMENSIONS, "external": {"url": url}}
    return {
        "apiVersion": API_VERSION,
        "kind": "RAGDeployment",
        "metadata": {"name": DEPLOYMENT, "namespace": NAMESPACE},
        "spec": {
            "vectorStore": {"weaviate": {"external": external}},
            "embedding": embedding,
            "generation": {"model": CHAT_MODEL, "maxModelLen": 4096, "external": {"url": url}},
            "state": redis,
            "cache": redis,
            "ingestion": {"maxDocumentBytes": 100_000},
        },
    }


def binding_manifest(name: str, owner: str | None = None, **settings: Any) -> dict[str, Any]:
    """A RAGBinding of a tenant of this name; with an owner, it shares a shard with others."""
    uid = uid_of(name)
    placement = {"documents": DOCUMENTS, "chunks": CHUNKS, "tenant": uid}
    if owner is not None:
        placement |= {"tenant": SHARED_TENANT, "isolation": "Filter", "owner": owner}
    digest = hashlib.sha256(key_of(name).encode()).hexdigest()
    return {
        "apiVersion": API_VERSION,
        "kind": "RAGBinding",
        "metadata": {"name": uid, "namespace": NAMESPACE},
        "spec": {
            "tenantRef": {"namespace": "team", "name": name, "uid": uid},
            "deploymentRef": {"name": DEPLOYMENT},
            "placement": placement,
            "keys": [{"id": f"key-{name}", "name": "default", "sha256": digest}],
            "settings": settings,
        },
    }
