"""Every name, label and annotation that the operator gives."""

from typing import Final

from ragtenancy_api.meta import GROUP

MANAGER: Final = "ragtenancy"
"""Field manager of every write, and the value of LABEL_MANAGED_BY."""

LABEL_MANAGED_BY: Final = "app.kubernetes.io/managed-by"
LABEL_PART_OF: Final = "app.kubernetes.io/part-of"
LABEL_NAME: Final = "app.kubernetes.io/name"
LABEL_INSTANCE: Final = "app.kubernetes.io/instance"
LABEL_COMPONENT: Final = "app.kubernetes.io/component"
LABEL_DEPLOYMENT: Final = f"{GROUP}/deployment"
LABEL_DEPLOYMENT_NAMESPACE: Final = f"{GROUP}/deployment-namespace"
LABEL_TENANT: Final = f"{GROUP}/tenant"
LABEL_TENANT_UID: Final = f"{GROUP}/tenant-uid"
LABEL_KEY: Final = f"{GROUP}/key"
LABEL_METRICS: Final = f"{GROUP}/metrics"
"""On a Service: it leads to a component's metrics."""

ANNOTATION_APPLIED: Final = f"{GROUP}/applied"
"""Hash of the manifest that was last applied: a field taken out of it is noticed."""
ANNOTATION_CREDENTIALS: Final = f"{GROUP}/credentials"
"""On a pod template: hash of the credentials that its pods were started with."""
ANNOTATION_KEY_SHA256: Final = f"{GROUP}/key-sha256"
"""On a key's Secret: the key that was issued. A Secret that holds another was edited."""
ANNOTATION_ROTATION: Final = f"{GROUP}/rotation"
"""On a key's Secret: the rotation that its key was issued for."""
ANNOTATION_ISSUED_AT: Final = f"{GROUP}/issued-at"
"""On a key's Secret: when its key was issued."""
ANNOTATION_CLAIM_UID: Final = f"{GROUP}/claim-uid"
"""On a download's Job: the claim that it fills. A claim that was made anew is filled again."""
ANNOTATION_PAUSED: Final = f"{GROUP}/paused"

FINALIZER: Final = f"{GROUP}/operator"

OPERATOR: Final = "ragtenancy-operator"
"""LABEL_NAME of the operator's own pods, as the chart gives it."""
LEASE: Final = "ragtenancy-operator"
KEY_PREFIX: Final = "rtk_"
"""So that a secret scanner recognises a key."""

ENTRY_API_KEY: Final = "OPENAI_API_KEY"
ENTRY_BASE_URL: Final = "OPENAI_BASE_URL"
ENTRY_MODEL: Final = "OPENAI_MODEL"
ENTRY_TENANT: Final = "RAGTENANCY_TENANT"


class Component:
    """The parts of a RAGDeployment, as LABEL_COMPONENT and as suffix of their objects' names."""

    WEAVIATE: Final = "weaviate"
    STATE: Final = "state"
    CACHE: Final = "cache"
    EMBEDDING: Final = "embedding"
    GENERATION: Final = "generation"
    API: Final = "api"


def download(component: str) -> str:
    """LABEL_COMPONENT of the pods that download a component's model."""
    return f"{component}-download"


def selector(deployment: str, component: str) -> dict[str, str]:
    """Labels that select a component's pods."""
    return {
        LABEL_INSTANCE: deployment,
        LABEL_COMPONENT: component,
        LABEL_DEPLOYMENT: deployment,
    }


def child(deployment: str, *parts: str) -> str:
    """Name of a deployment's child: ``main-generation-model-cache``."""
    return "-".join((deployment, *parts))


def collections(uid: str) -> tuple[str, str]:
    """Weaviate collections (documents, chunks) of a deployment, or of a tenant that has its own.

    They carry the owner's uid, so that deployments can share an external Weaviate.
    """
    suffix = uid.replace("-", "")
    return f"Documents_{suffix}", f"Chunks_{suffix}"


def key_secret(tenant: str, key: str) -> str:
    """Name of a key's Secret when the tenant names none."""
    return f"{tenant}-{key}-rag"
