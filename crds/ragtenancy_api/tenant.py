"""RAGTenant: a product team's resource."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from ragtenancy_api.meta import (
    Condition,
    Duration,
    Model,
    Name,
    Namespace,
    Object,
    OpenModel,
    SecretKeyRef,
    Timestamp,
    at_most_one,
    rule,
    rules,
)
from ragtenancy_api.settings import (
    CacheSettings,
    GenerationSettings,
    IdleSettings,
    Isolation,
    Quotas,
    RetrievalSettings,
    Role,
)

NAME_MAX_LENGTH = 63


class DeploymentRef(Model):
    """The RAGDeployment that serves a tenant."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "self == oldSelf",
                "deploymentRef is immutable: documents do not move. Declare a new RAGTenant on the "
                "other RAGDeployment and load the documents there",
            )
        )
    )

    name: Name = Field(description="Name of the RAGDeployment.")
    namespace: Namespace = Field(description="Its namespace.")


class APIKey(Model):
    """An API key, delivered as a Secret in the tenant's namespace, or brought along in one."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            at_most_one("secretRef", "secretName"),
            rule(
                "!(has(self.secretRef) && has(self.rotation))",
                "a key of your own (secretRef) is rotated by changing its Secret, not by rotation",
            ),
        )
    )

    name: str = Field(
        pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=32, description="Name of the key."
    )
    secret_name: Name | None = Field(
        default=None,
        description="Name of the Secret that is made; TENANT-KEY-rag when absent.",
    )
    secret_ref: SecretKeyRef | None = Field(
        default=None,
        description="A key of your own, from a Secret that you keep (Vault, External Secrets): 32 "
        "characters or more. No Secret is made then.",
    )
    role: Role = Field(
        default="Writer", description="Reader: asks and searches. Writer: also changes documents."
    )
    rotation: Annotated[str, Field(min_length=1, max_length=64)] | None = Field(
        default=None,
        description="Any text. Changing it issues a new key into the same Secret; the old one "
        "works until overlap ends.",
    )
    overlap: Duration = Field(
        default="24h", description="How long the old key works after a rotation."
    )
    expires_at: Timestamp | None = Field(
        default=None, description="When the key ends; never when absent."
    )


class RestoreFrom(Model):
    """What a tenant with deletionPolicy Retain left behind."""

    binding: Name = Field(
        description="Name of the RAGBinding that is Released: the uid of the old RAGTenant. It "
        "must be of a tenant of the same namespace and name, or name this one as its tenantRef."
    )


class RAGTenantSpec(Model):
    """A product team's share of a RAGDeployment."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "self.isolation == oldSelf.isolation",
                "isolation is immutable: documents do not move. Declare a new RAGTenant and load "
                "the documents there",
            ),
            rule(
                "!has(self.restoreFrom) || (has(oldSelf.restoreFrom) && "
                "self.restoreFrom.binding == oldSelf.restoreFrom.binding)",
                "restoreFrom can only be set when a RAGTenant is created: this one has its own "
                "documents",
            ),
        )
    )

    deployment_ref: DeploymentRef = Field(description="The RAGDeployment that serves this tenant.")
    suspended: bool = Field(
        default=False, description="Refuse every request of the tenant, and keep all it has."
    )
    isolation: Isolation = Field(
        default="Shard",
        description="How its documents are kept apart. Shard: a shard of its own in the "
        "deployment's collections. Collection: collections of its own. Filter: with other small "
        "tenants in one shard, behind a filter on the tenant.",
    )
    quotas: Quotas = Field(default=Quotas(), description="What the tenant may use.")
    cache: CacheSettings = Field(default=CacheSettings(), description="How answers are cached.")
    retrieval: RetrievalSettings = Field(
        default=RetrievalSettings(), description="How chunks are found."
    )
    generation: GenerationSettings = Field(
        default=GenerationSettings(), description="How answers are written."
    )
    idle: IdleSettings = Field(default=IdleSettings(), description="When its shard goes cold.")
    deletion_policy: Literal["Delete", "Retain"] = Field(
        default="Delete",
        description="What becomes of documents and usage when the RAGTenant is deleted. Retain "
        "leaves them in a Released RAGBinding, for restoreFrom.",
    )
    restore_from: RestoreFrom | None = Field(
        default=None, description="Take over what a deleted RAGTenant left behind."
    )
    api_keys: list[APIKey] = Field(
        default=[APIKey(name="default")],
        min_length=1,
        max_length=16,
        description="API keys; one named default when absent.",
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
            **rules(
                rule(
                    "self.all(a, !has(a.secretName) || self.exists_one(b, has(b.secretName) && "
                    "b.secretName == a.secretName))",
                    "two keys cannot have the same secretName",
                )
            ),
        },
    )


class IssuedKey(OpenModel):
    """An API key that was issued."""

    name: str = Field(description="Name of the key in the spec.")
    id: str = Field(description="Identifier of the key in logs; not secret.")
    secret_name: str = Field(description="Secret that holds the key.")
    created_at: str | None = Field(
        default=None,
        json_schema_extra={"format": "date-time"},
        description="When the key was issued.",
    )
    expires_at: str | None = Field(
        default=None,
        json_schema_extra={"format": "date-time"},
        description="When it ends: its expiresAt, or the end of a rotation's overlap.",
    )


class Usage(OpenModel):
    """What a tenant used on one day (UTC)."""

    day: str = Field(description="The day: 2026-01-31.")
    requests: int = Field(default=0, description="Requests that were admitted.")
    prompt_tokens: int = Field(default=0, description="Tokens of prompts.")
    cached_tokens: int = Field(default=0, description="Those of them that the model had cached.")
    completion_tokens: int = Field(default=0, description="Tokens of answers.")
    embedding_tokens: int = Field(default=0, description="Tokens that were embedded.")


class RAGTenantStatus(OpenModel):
    """What the operator saw. For people to read: nothing decides by it."""

    observed_generation: int = Field(
        default=0, description="The metadata.generation that this status was computed from."
    )
    conditions: list[Condition] = Field(
        default_factory=list,
        max_length=32,
        description="Accepted, PlacementReady, CredentialsReady, Served, and Ready, which sums "
        "them up.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    uid: str | None = Field(
        default=None, description="Identity of the tenant in every store and metric."
    )
    api_keys: list[IssuedKey] | None = Field(
        default=None, max_length=64, description="Keys that were issued."
    )
    url: str | None = Field(default=None, description="Base URL of the API, with /v1.")
    documents: int | None = Field(default=None, description="Documents, as last counted.")
    usage: Usage | None = Field(
        default=None, description="What was used on the last day that anything was."
    )


class RAGTenant(Object):
    """A tenant of a RAGDeployment."""

    spec: RAGTenantSpec
    status: RAGTenantStatus = RAGTenantStatus()


COLUMNS: list[dict[str, Any]] = [
    {
        "name": "Ready",
        "type": "string",
        "jsonPath": '.status.conditions[?(@.type=="Ready")].status',
    },
    {
        "name": "Reason",
        "type": "string",
        "jsonPath": '.status.conditions[?(@.type=="Ready")].reason',
    },
    {"name": "Deployment", "type": "string", "jsonPath": ".spec.deploymentRef.name"},
    {"name": "Documents", "type": "integer", "jsonPath": ".status.documents"},
    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
]
