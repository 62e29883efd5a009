"""RAGTenant: a product team's resource."""

from typing import Any, Literal

from pydantic import ConfigDict, Field

from ragtenancy_api.deployment import ExactCache
from ragtenancy_api.meta import Condition, Model, Name, Namespace, Object, OpenModel, rule, rules

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


class Quotas(Model):
    """What a tenant may use; a limit that is absent does not limit."""

    requests_per_minute: int | None = Field(
        default=None, ge=1, le=10_000_000, description="Requests admitted in a minute."
    )
    burst: int | None = Field(
        default=None,
        ge=1,
        le=10_000_000,
        description="Requests admitted at once, before requestsPerMinute paces them; "
        "requestsPerMinute when absent.",
    )
    tokens_per_minute: int | None = Field(
        default=None,
        ge=1,
        le=10_000_000_000,
        description="Prompt and completion tokens admitted in a minute.",
    )
    concurrent_requests: int | None = Field(
        default=None, ge=1, le=100_000, description="Requests that may run at the same time."
    )


class TenantCache(Model):
    """How a tenant's answers are cached."""

    exact: ExactCache | None = Field(
        default=None,
        description="The cache of answers to the very same request; the deployment's when absent.",
    )


class Retrieval(Model):
    """How chunks are found for a question."""

    mode: Literal["Hybrid", "Vector", "Keyword", "None"] = Field(
        default="Hybrid",
        description="Hybrid: vectors and BM25, fused. Vector and Keyword: one of them. None: no "
        "retrieval, a plain gateway to the model.",
    )
    top_k: int = Field(default=4, ge=1, le=100, description="Chunks that are retrieved.")
    max_context_tokens: int = Field(
        default=1024,
        ge=16,
        le=1_000_000,
        description="Tokens of the prompt that chunks may take, at most.",
    )


class TenantGeneration(Model):
    """How answers are written."""

    system_prompt: str | None = Field(
        default=None, max_length=16_384, description="Instructions put before every conversation."
    )
    temperature: float = Field(
        default=0.0, ge=0, le=2, description="Temperature of a request that gives none."
    )
    max_tokens: int = Field(
        default=512, ge=1, le=1_000_000, description="Longest answer, in tokens."
    )


class APIKey(Model):
    """An API key, delivered as a Secret in the tenant's namespace."""

    name: str = Field(
        pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=32, description="Name of the key."
    )
    secret_name: Name | None = Field(
        default=None,
        description="Name of the Secret; TENANT-KEY-rag when absent.",
    )


class RAGTenantSpec(Model):
    """A product team's share of a RAGDeployment."""

    deployment_ref: DeploymentRef = Field(description="The RAGDeployment that serves this tenant.")
    quotas: Quotas = Field(default=Quotas(), description="What the tenant may use.")
    cache: TenantCache = Field(default=TenantCache(), description="How answers are cached.")
    retrieval: Retrieval = Field(default=Retrieval(), description="How chunks are found.")
    generation: TenantGeneration = Field(
        default=TenantGeneration(), description="How answers are written."
    )
    api_keys: list[APIKey] = Field(
        default=[APIKey(name="default")],
        min_length=1,
        max_length=16,
        description="API keys; one named default when absent.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )


class IssuedKey(OpenModel):
    """An API key that was issued."""

    name: str = Field(description="Name of the key in the spec.")
    id: str = Field(description="Identifier of the key in logs; not secret.")
    secret_name: str = Field(description="Secret that holds the key.")


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
    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
]
