"""RAGBinding: the operator's own record of a tenant, in the RAGDeployment's namespace.

What decides (placement, key hashes, effective settings) lives here, where the tenant's owner has
no rights, as a PersistentVolume does for its claim. API pods watch bindings and nothing else of
the tenants. A binding is named by its tenant's uid.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from ragtenancy_api.meta import Model, Name, Namespace, Object, OpenModel, Timestamp
from ragtenancy_api.settings import (
    EffectiveCache,
    Idle,
    Isolation,
    Quotas,
    Retrieval,
    Role,
    TenantGeneration,
)
from ragtenancy_api.tenant import Usage

UID = Annotated[str, Field(pattern=r"^[0-9a-f-]{36}$", max_length=36)]


class TenantRef(Model):
    """The RAGTenant that this binding belongs to."""

    namespace: Namespace = Field(description="Namespace of the RAGTenant.")
    name: Name = Field(description="Name of the RAGTenant.")
    uid: UID = Field(description="Uid of the RAGTenant: a new one of the same name is another.")


class BoundDeployment(Model):
    """The RAGDeployment, in this namespace, that serves the tenant."""

    name: Name = Field(description="Name of the RAGDeployment.")


class Placement(Model):
    """Where the tenant's documents are."""

    documents: str = Field(
        pattern=r"^[A-Z][_0-9A-Za-z]*$",
        max_length=255,
        description="Weaviate collection of documents.",
    )
    chunks: str = Field(
        pattern=r"^[A-Z][_0-9A-Za-z]*$",
        max_length=255,
        description="Weaviate collection of chunks.",
    )
    tenant: str = Field(
        pattern=r"^[A-Za-z0-9_-]{1,64}$", max_length=64, description="Weaviate tenant in both."
    )
    isolation: Isolation = Field(
        default="Shard", description="How the documents are kept apart from other tenants'."
    )
    owner: UID | None = Field(
        default=None,
        description="With isolation Filter: value of the objects' owner property, which every read "
        "and write carries.",
    )


class BoundKey(Model):
    """A key that authenticates the tenant, as its hash."""

    id: str = Field(max_length=64, description="Identifier of the key in logs; not secret.")
    name: str = Field(max_length=64, description="Name of the key in the RAGTenant.")
    sha256: str = Field(
        pattern=r"^[0-9a-f]{64}$", max_length=64, description="SHA-256 of the key, in hex."
    )
    role: Role = Field(default="Writer", description="What the key may do.")
    rotation: str | None = Field(
        default=None, max_length=64, description="The rotation that the key was issued for."
    )
    issued_at: Timestamp | None = Field(default=None, description="When the key was issued.")
    expires_at: Timestamp | None = Field(
        default=None, description="When the key ends; never when absent."
    )


class Settings(Model):
    """What holds for the tenant, with every default filled in."""

    quotas: Quotas = Field(default=Quotas(), description="What the tenant may use.")
    cache: EffectiveCache = Field(default=EffectiveCache(), description="How answers are cached.")
    retrieval: Retrieval = Field(default=Retrieval(), description="How chunks are found.")
    generation: TenantGeneration = Field(
        default=TenantGeneration(), description="How answers are written."
    )
    idle: Idle = Field(default=Idle(), description="When the shard goes cold.")


class RAGBindingSpec(Model):
    """What the API pods act on."""

    tenant_ref: TenantRef = Field(description="The RAGTenant that this binding belongs to.")
    deployment_ref: BoundDeployment = Field(description="The RAGDeployment that serves it.")
    placement: Placement = Field(description="Where the tenant's documents are.")
    keys: list[BoundKey] = Field(
        default_factory=list,
        max_length=64,
        description="Keys that authenticate the tenant.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["id"]},
    )
    settings: Settings = Field(default=Settings(), description="What holds for the tenant.")
    suspended: bool = Field(
        default=False, description="Whether every request of the tenant is refused."
    )
    deletion_policy: Literal["Delete", "Retain"] = Field(
        default="Delete", description="What becomes of it when the tenant is deleted."
    )
    claimed_by: UID | None = Field(
        default=None,
        description="Uid of the tenant that takes over what is here; nothing is emptied then.",
    )


class RAGBindingStatus(OpenModel):
    """Where the binding is in its life."""

    phase: Literal["Releasing", "Released"] | None = Field(
        default=None,
        description="Absent while the binding serves its tenant. Releasing: the tenant is gone, "
        "and the stores are being emptied of it. Released: the tenant is gone, and what it had is "
        "retained; deleting the binding empties the stores.",
    )
    message: str | None = Field(
        default=None, max_length=4096, description="What Releasing waits for."
    )
    documents: int | None = Field(default=None, description="Documents, as last counted.")
    usage: Usage | None = Field(
        default=None, description="What was used on the last day that anything was."
    )
    lost_at: str | None = Field(
        default=None,
        json_schema_extra={"format": "date-time"},
        description="When the tenant's documents were found lost in Weaviate; absent again when "
        "documents are loaded.",
    )


class RAGBinding(Object):
    """The operator's record of one tenant. Written by the operator alone."""

    spec: RAGBindingSpec
    status: RAGBindingStatus = RAGBindingStatus()


COLUMNS: list[dict[str, Any]] = [
    {"name": "Namespace", "type": "string", "jsonPath": ".spec.tenantRef.namespace"},
    {"name": "Tenant", "type": "string", "jsonPath": ".spec.tenantRef.name"},
    {"name": "Deployment", "type": "string", "jsonPath": ".spec.deploymentRef.name"},
    {"name": "Phase", "type": "string", "jsonPath": ".status.phase"},
    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
]
