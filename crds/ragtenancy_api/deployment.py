"""RAGDeployment: the platform team's resource."""

from typing import Any, Literal

from pydantic import ConfigDict, Field

from ragtenancy_api.api import API
from ragtenancy_api.meta import (
    HTTPURL,
    Condition,
    Duration,
    Label,
    LabelSelector,
    Model,
    Object,
    OpenModel,
    rule,
    rules,
)
from ragtenancy_api.models import Embedding, Generation
from ragtenancy_api.stores import Cache, State, VectorStore
from ragtenancy_api.tenancy import Tenants

NAME_MAX_LENGTH = 40
"""So that the longest child's name, with its suffixes, still is a DNS label."""


class Chunking(Model):
    """How documents are split."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule("self.overlap < self.tokens", "overlap must be smaller than tokens")
        )
    )

    tokens: int = Field(
        default=200, ge=16, le=8192, description="Longest chunk, in the embedding model's tokens."
    )
    overlap: int = Field(
        default=30, ge=0, le=4096, description="Tokens that a chunk shares with the one before."
    )


class Ingestion(Model):
    """How documents are taken in."""

    max_document_bytes: int = Field(
        default=2_000_000, ge=1, le=1_000_000_000, description="Largest document, in bytes."
    )
    chunking: Chunking = Field(default=Chunking(), description="How documents are split.")


class ServiceMonitor(Model):
    """A ServiceMonitor of the Prometheus operator for the API, Weaviate and the models."""

    enabled: bool = Field(
        default=False, description="Whether one is made. The cluster must have its CRD."
    )
    interval: Duration = Field(default="30s", description="How often metrics are scraped.")
    labels: dict[str, Label] | None = Field(
        default=None, max_length=32, description="Labels that your Prometheus selects by."
    )


class Tracing(Model):
    """Traces in OpenTelemetry's conventions."""

    otlp_endpoint: HTTPURL = Field(
        description="OTLP/HTTP endpoint of a collector, without /v1/traces: http://collector:4318."
    )
    sample_ratio: float = Field(
        default=1.0, ge=0, le=1, description="Share of requests without a sampled parent."
    )


class Observability(Model):
    """Metrics and traces."""

    service_monitor: ServiceMonitor = Field(
        default=ServiceMonitor(), description="Scraping by the Prometheus operator."
    )
    tracing: Tracing | None = Field(default=None, description="Traces; none when absent.")


class NetworkPolicy(Model):
    """NetworkPolicies that allow only the paths that the data takes."""

    enabled: bool = Field(default=True, description="Whether they are made.")
    metrics_from: LabelSelector | None = Field(
        default=None,
        description="Namespaces whose pods may scrape metrics, by their labels. None when absent; "
        "the operator always may.",
    )


class RAGDeploymentSpec(Model):
    """One environment: vector store, models, caches and API, shared by its tenants."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "self.ingestion.chunking.tokens <= self.embedding.maxInputTokens",
                "ingestion.chunking.tokens must not pass embedding.maxInputTokens: a longer chunk "
                "cannot be embedded",
            )
        )
    )

    tenants: Tenants = Field(default=Tenants(), description="What tenants may do.")
    vector_store: VectorStore = Field(description="Where documents and their vectors are kept.")
    embedding: Embedding = Field(description="The model that turns text into vectors.")
    generation: Generation = Field(description="The model that writes answers.")
    state: State = Field(description="Where quotas and usage are kept.")
    cache: Cache = Field(description="Where answers are cached.")
    api: API = Field(default=API(), description="The service that answers tenants.")
    ingestion: Ingestion = Field(default=Ingestion(), description="How documents are taken in.")
    observability: Observability = Field(default=Observability(), description="Metrics and traces.")
    network_policy: NetworkPolicy = Field(
        default=NetworkPolicy(), description="Which pods may talk to which."
    )
    deletion_policy: Literal["Refuse", "Cascade"] = Field(
        default="Refuse",
        description="What a deletion does while tenants point to this deployment. Refuse: it is "
        "denied. Cascade: their documents, caches and usage go with it.",
    )


class TenantCount(OpenModel):
    """How many tenants a deployment has."""

    total: int = Field(default=0, description="RAGTenants that point to this deployment.")
    ready: int = Field(default=0, description="Those of them that are Ready.")


class ServedModel(OpenModel):
    """The chat model that is in service."""

    model: str = Field(description="Name of the model.")
    max_model_len: int = Field(description="Its context window in tokens.")


class RAGDeploymentStatus(OpenModel):
    """What the operator saw."""

    observed_generation: int = Field(
        default=0, description="The metadata.generation that this status was computed from."
    )
    conditions: list[Condition] = Field(
        default_factory=list,
        max_length=32,
        description="Accepted, one per component, and Ready, which sums them up.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    url: str | None = Field(default=None, description="Base URL of the API, with /v1.")
    tenants: TenantCount | None = Field(default=None, description="Tenants of this deployment.")
    images: dict[str, str] | None = Field(
        default=None,
        description="Default images that were in force when a component was first made. A new "
        "operator keeps them, but the API's, which follows the operator.",
    )
    generation: ServedModel | None = Field(
        default=None,
        description="The chat model that vLLM serves. The API goes on with it while another is "
        "downloaded and rolled out. Absent when the model is external.",
    )


class RAGDeployment(Object):
    """A multi-tenant RAG service: Weaviate, Redis, models and the API."""

    spec: RAGDeploymentSpec
    status: RAGDeploymentStatus = RAGDeploymentStatus()

    @property
    def generation(self) -> Generation:
        """The chat model that answers by now; the spec's takes its time to be downloaded."""
        wanted, served = self.spec.generation, self.status.generation
        if wanted.vllm is None or served is None:
            return wanted
        return wanted.model_copy(
            update={"model": served.model, "max_model_len": served.max_model_len}
        )


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
    {"name": "Tenants", "type": "integer", "jsonPath": ".status.tenants.total"},
    {"name": "URL", "type": "string", "jsonPath": ".status.url"},
    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
]
