"""RAGDeployment: the platform team's resource."""

from typing import Any, Literal

from pydantic import ConfigDict, Field

from ragtenancy_api.meta import (
    HTTPURL,
    Condition,
    Duration,
    Model,
    ModelName,
    Name,
    Object,
    OpenModel,
    Quantity,
    SecretKeyRef,
    rule,
    rules,
)
from ragtenancy_api.pods import Argument, Label, PodSettings, Storage

NAME_MAX_LENGTH = 40
"""So that the longest child's name, with its suffixes, still is a DNS label."""


def _exactly_one(first: str, second: str) -> dict[str, str]:
    return rule(
        f"has(self.{first}) != has(self.{second})", f"set exactly one of {first} and {second}"
    )


def _same_choice(choice: str, what: str) -> dict[str, str]:
    return rule(
        f"has(self.{choice}) == has(oldSelf.{choice})",
        f"a {what} cannot change between managed and external: what it holds would be lost. "
        "Declare a new RAGDeployment and move the tenants there",
    )


class LabelSelectorRequirement(Model):
    """One requirement of a label selector."""

    key: str = Field(max_length=316, description="Label key.")
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"] = Field(
        description="How the label's value relates to the values."
    )
    values: list[Label] = Field(default_factory=list, max_length=64, description="Label values.")


class LabelSelector(Model):
    """A label selector, as Kubernetes defines it."""

    match_labels: dict[str, Label] | None = Field(
        default=None, max_length=32, description="Labels that must be there with these values."
    )
    match_expressions: list[LabelSelectorRequirement] | None = Field(
        default=None, max_length=32, description="Requirements that must all hold."
    )


class AllowedNamespaces(Model):
    """Which namespaces may have tenants of this deployment, as Gateway API's allowedRoutes."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "(self.from == 'Selector') == has(self.selector)",
                "selector is required when from is Selector, and only then",
            )
        )
    )

    from_: Literal["Same", "All", "Selector"] = Field(
        default="Same",
        alias="from",
        description="Same: only this namespace. All: every namespace. Selector: namespaces whose "
        "labels match the selector.",
    )
    selector: LabelSelector | None = Field(
        default=None, description="Selects namespaces by their labels."
    )


class Tenants(Model):
    """What the platform lets tenants do."""

    allowed_namespaces: AllowedNamespaces = Field(
        default=AllowedNamespaces(), description="Namespaces whose RAGTenants are accepted."
    )


class ManagedWeaviate(PodSettings):
    """A Weaviate that the operator runs."""

    storage: Storage = Field(default=Storage(), description="Volume of each Weaviate pod.")


class ExternalWeaviate(Model):
    """A Weaviate that somebody else runs."""

    http_url: HTTPURL = Field(description="URL of its REST API.")
    grpc_url: str = Field(
        pattern=r"^grpcs?://[^\s/]+$",
        max_length=1024,
        description="Address of its gRPC API: grpc://HOST:PORT, or grpcs:// for TLS.",
    )
    api_key_secret_ref: SecretKeyRef | None = Field(
        default=None, description="Secret with its API key. Anonymous when absent."
    )


class Weaviate(Model):
    """The vector database, managed or external."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            _exactly_one("managed", "external"), _same_choice("managed", "vector store")
        )
    )

    managed: ManagedWeaviate | None = Field(default=None, description="Run by the operator.")
    external: ExternalWeaviate | None = Field(default=None, description="Run by somebody else.")


class Collection(Model):
    """How the chunks of all tenants are indexed."""

    index: Literal["Dynamic", "Flat", "HNSW"] = Field(
        default="Dynamic",
        description="Vector index of a tenant's shard. Dynamic: flat while the shard is small, "
        "HNSW above 10,000 chunks.",
    )
    quantization: Literal["None", "RQ", "BQ"] = Field(
        default="None", description="How vectors are compressed in memory."
    )


class VectorStore(Model):
    """Where documents and their vectors are kept."""

    weaviate: Weaviate = Field(description="The Weaviate that holds them.")
    collection: Collection = Field(
        default=Collection(),
        description="How chunks are indexed.",
        json_schema_extra=rules(
            rule(
                "self == oldSelf",
                "the index and its quantization are immutable: Weaviate builds them into the "
                "collection. Declare a new RAGDeployment and load the documents there",
            )
        ),
    )


class ModelCacheClaim(Model):
    """The claim that keeps a downloaded model."""

    size: Quantity = Field(default="20Gi", description="Size of the volume.")
    storage_class_name: Name | None = Field(
        default=None, description="StorageClass of the claim; the cluster's default when absent."
    )
    access_mode: Literal["ReadWriteOnce", "ReadWriteMany"] = Field(
        default="ReadWriteOnce",
        description="ReadWriteMany lets model and API pods run on different nodes: both read the "
        "model's tokenizer from this volume.",
    )


class ModelCache(Model):
    """Where a model is kept between restarts."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "self == oldSelf",
                "the model cache's claim is immutable. Delete the RAGDeployment's model (switch to "
                "external) or declare a new RAGDeployment to change it",
            )
        )
    )

    persistent_volume_claim: ModelCacheClaim = Field(
        default=ModelCacheClaim(), description="The claim made for the model."
    )


class VLLM(PodSettings):
    """A vLLM server that the operator runs."""

    replicas: int = Field(default=1, ge=0, le=256, description="Number of pods.")
    gpus: int = Field(
        default=1,
        ge=0,
        le=16,
        description="GPUs (nvidia.com/gpu) of each pod; the model is split over all of them. "
        "0 runs on the CPU and needs an image built for that.",
    )
    args: list[Argument] | None = Field(
        default=None, max_length=64, description="More arguments for `vllm serve`."
    )
    model_cache: ModelCache = Field(
        default=ModelCache(), description="Where the downloaded model is kept."
    )
    token_secret_ref: SecretKeyRef | None = Field(
        default=None, description="Secret with the model hub's token, for gated models."
    )


class ExternalModel(Model):
    """An OpenAI-compatible server that somebody else runs."""

    url: HTTPURL = Field(description="Base URL, with its version part: https://HOST/v1.")
    api_key_secret_ref: SecretKeyRef | None = Field(
        default=None, description="Secret with its API key. None is sent when absent."
    )


_ONE_SERVER = _exactly_one("vllm", "external")


class Embedding(Model):
    """The embedding model."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            _ONE_SERVER,
            rule(
                "self.model == oldSelf.model && self.dimensions == oldSelf.dimensions",
                "the embedding model and its dimensions are immutable: vectors of two models "
                "cannot be compared. Declare a new RAGDeployment and load the documents there",
            ),
        )
    )

    model: ModelName = Field(description="Name of the model.")
    dimensions: int = Field(ge=1, le=65535, description="Length of its vectors.")
    max_input_tokens: int = Field(
        default=512, ge=16, le=131072, description="The longest text it takes, in its own tokens."
    )
    vllm: VLLM | None = Field(default=None, description="Served by a vLLM of the operator's.")
    external: ExternalModel | None = Field(default=None, description="Served by somebody else.")


class Generation(Model):
    """The chat model."""

    model_config = ConfigDict(json_schema_extra=rules(_ONE_SERVER))

    model: ModelName = Field(description="Name of the model.")
    max_model_len: int = Field(
        ge=256, le=10_485_760, description="Context window in tokens: prompt and answer together."
    )
    vllm: VLLM | None = Field(default=None, description="Served by a vLLM of the operator's.")
    external: ExternalModel | None = Field(default=None, description="Served by somebody else.")


class ExternalRedis(Model):
    """A Redis that somebody else runs."""

    url_secret_ref: SecretKeyRef = Field(
        description="Secret with its URL: redis://USER:PASSWORD@HOST:PORT/DB, or rediss:// for TLS."
    )


class ManagedStateRedis(PodSettings):
    """A Redis with an append-only file, that the operator runs."""

    storage: Storage = Field(
        default=Storage(size="1Gi"), description="Volume of the append-only file."
    )


class StateRedis(Model):
    """The Redis that holds leases and the usage ledger; it never evicts."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            _exactly_one("managed", "external"), _same_choice("managed", "state Redis")
        )
    )

    managed: ManagedStateRedis | None = Field(default=None, description="Run by the operator.")
    external: ExternalRedis | None = Field(default=None, description="Run by somebody else.")


class State(Model):
    """Where quotas and usage are kept."""

    redis: StateRedis = Field(description="The Redis that holds them.")


class ManagedCacheRedis(PodSettings):
    """A Redis that keeps nothing on disk and evicts what is least recently used."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "quantity(self.maxMemory).compareTo(quantity('1Mi')) >= 0",
                "maxMemory must be 1Mi or more: write 256Mi, not 256m",
            )
        )
    )

    max_memory: Quantity = Field(
        default="256Mi", description="Memory for cached answers; beyond it the oldest are evicted."
    )


class CacheRedis(Model):
    """The Redis that holds cached answers; it may be lost at any time."""

    model_config = ConfigDict(json_schema_extra=rules(_exactly_one("managed", "external")))

    managed: ManagedCacheRedis | None = Field(default=None, description="Run by the operator.")
    external: ExternalRedis | None = Field(default=None, description="Run by somebody else.")


class ExactCache(Model):
    """The cache of answers to the very same request."""

    enabled: bool = Field(default=True, description="Whether answers are cached.")
    ttl: Duration = Field(default="1h", description="How long an answer is kept.")


class Cache(Model):
    """Where answers are cached, and what a tenant that is silent gets."""

    redis: CacheRedis = Field(description="The Redis that holds them.")
    exact: ExactCache = Field(
        default=ExactCache(), description="The exact cache, for tenants that do not say."
    )


class API(PodSettings):
    """The service that answers tenants."""

    replicas: int = Field(default=2, ge=0, le=1000, description="Number of pods.")
    public_url: HTTPURL | None = Field(
        default=None,
        alias="publicURL",
        description="URL under which clients reach the API, without /v1. It goes into every "
        "tenant's Secret. When absent, the Service's address inside the cluster.",
    )


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


class TenantCount(OpenModel):
    """How many tenants a deployment has."""

    total: int = Field(default=0, description="RAGTenants that point to this deployment.")
    ready: int = Field(default=0, description="Those of them that are Ready.")


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


class RAGDeployment(Object):
    """A multi-tenant RAG service: Weaviate, Redis, models and the API."""

    spec: RAGDeploymentSpec
    status: RAGDeploymentStatus = RAGDeploymentStatus()


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
