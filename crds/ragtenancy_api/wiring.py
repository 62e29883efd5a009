"""What operator and runtime agree on: ports, environment, files, Redis keys, Weaviate properties.

Both sides take these names from here, so that neither can drift from the other.
"""

from typing import Final, Literal, NamedTuple

from pydantic import Field

from ragtenancy_api.meta import OpenModel

API_PORT: Final = 8080
"""The port tenants reach: /v1, /healthz, /readyz."""
INTERNAL_PORT: Final = 9090
"""The port of the platform: /metrics and WATCH_PATH. In no Service that tenants use."""
WATCH_PATH: Final = "/watch"
DOWNLOAD_PATH: Final = "/download"
"""Where, on INTERNAL_PORT, a pod that downloads a model says how far it is."""

ENV_DEPLOYMENT: Final = "RAGTENANCY_DEPLOYMENT"
ENV_NAMESPACE: Final = "RAGTENANCY_NAMESPACE"
ENV_WEAVIATE_HTTP_URL: Final = "RAGTENANCY_WEAVIATE_HTTP_URL"
ENV_WEAVIATE_GRPC_URL: Final = "RAGTENANCY_WEAVIATE_GRPC_URL"
ENV_EMBEDDING_URL: Final = "RAGTENANCY_EMBEDDING_URL"
ENV_GENERATION_URL: Final = "RAGTENANCY_GENERATION_URL"
"""Base URLs of the models' OpenAI APIs, with their version part: http://HOST:8000/v1."""
ENV_EMBEDDING_MODEL_CACHE: Final = "RAGTENANCY_EMBEDDING_MODEL_CACHE"
"""Directory in the Hugging Face cache's layout; unset when the model is external."""
ENV_GENERATION_MODEL_CACHE: Final = "RAGTENANCY_GENERATION_MODEL_CACHE"
ENV_CREDENTIALS: Final = "RAGTENANCY_CREDENTIALS"
"""Directory that holds the CREDENTIAL_* and CA_* files."""
ENV_OTLP_ENDPOINT: Final = "RAGTENANCY_OTLP_ENDPOINT"
"""OTLP/HTTP endpoint of a collector, without /v1/traces; unset: no traces."""
ENV_TRACE_SAMPLE_RATIO: Final = "RAGTENANCY_TRACE_SAMPLE_RATIO"

CREDENTIAL_WEAVIATE: Final = "weaviate-api-key"
CREDENTIAL_EMBEDDING: Final = "embedding-api-key"
CREDENTIAL_GENERATION: Final = "generation-api-key"
CREDENTIAL_STATE_REDIS: Final = "state-redis-url"
CREDENTIAL_CACHE_REDIS: Final = "cache-redis-url"
CREDENTIAL_CACHE_SALT: Final = "cache-salt"
"""Files below ENV_CREDENTIALS. Redis URLs and the cache salt are always there; a missing API key
means that the server asks for none."""


CA_WEAVIATE: Final = "weaviate-ca.crt"
CA_EMBEDDING: Final = "embedding-ca.crt"
CA_GENERATION: Final = "generation-ca.crt"
CA_STATE_REDIS: Final = "state-redis-ca.crt"
CA_CACHE_REDIS: Final = "cache-redis-ca.crt"
"""Files below ENV_CREDENTIALS: CAs (PEM) that an external server's certificate is verified by. A
missing one means the public CAs."""


class WatchProgress(OpenModel):
    """What an API pod answers on WATCH_PATH: how far it has applied its watches."""

    ragbindings: str = Field(description="resourceVersion up to which bindings are applied.")
    ragdeployments: str = Field(description="The same for the pod's own RAGDeployment.")


def amount(count: int, of: int | None = None) -> str:
    """Bytes for people: ``12.4 GB``, or ``3.1 of 12.4 GB``."""
    power = min(max(len(str(of or count)) - 1, 0) // 3, 4)
    unit = ("B", "kB", "MB", "GB", "TB")[power]

    def number(value: int) -> str:
        return f"{value / 1000**power:.1f}" if power else str(value)

    return f"{number(count)} {unit}" if of is None else f"{number(count)} of {number(of)} {unit}"


class DownloadProgress(OpenModel):
    """What a pod that downloads a model answers on DOWNLOAD_PATH."""

    done: int = Field(default=0, description="Bytes that the model cache holds.")
    total: int | None = Field(
        default=None, description="Bytes of the model; null until the hub has answered."
    )
    trouble: str = Field(
        default="", description="Why it is waiting to try again; empty while it goes on."
    )


class DownloadFailure(OpenModel):
    """What a pod that could not download a model leaves as its termination message."""

    reason: Literal[
        "ModelNotFound", "TokenMissing", "DiskFull", "Unreachable", "CacheReadOnly", "Failed"
    ] = Field(description="What went wrong, in one word.")
    message: str = Field(description="The same in a sentence, with what to do; no credentials.")


_STATE: Final = ("requests", "tokens", "leases", "usage", "admitted", "epoch", "writing", "used")
_CACHE: Final = ("exact",)


def tenant_key(uid: str, name: str) -> str:
    """The Redis key of one kind of record of a tenant. All of a tenant's share a hash slot."""
    return f"ragtenancy:{{{uid}}}:{name}"


USED: Final = "used"
"""tenant_key() of the tenant's last use: Unix seconds as text. API pods write it before they touch
the tenant's shard, at most once in USED_SECONDS each; the operator puts to sleep what is idle."""
USED_SECONDS: Final = 60


def state_keys(uid: str) -> list[str]:
    """Every key that a tenant may have in the state Redis, its tombstone apart."""
    return [tenant_key(uid, name) for name in _STATE]


def cache_keys(uid: str) -> list[str]:
    """Every key that a tenant may have in the cache Redis, its tombstone apart."""
    return [tenant_key(uid, name) for name in _CACHE]


def tombstone_key(uid: str) -> str:
    """Set, in both Redis, before a tenant's keys are removed: scripts that see it write nothing."""
    return tenant_key(uid, "gone")


SHARED_TENANT: Final = "shared"
"""Weaviate tenant that holds all tenants of isolation Filter."""
OWNER: Final = "owner"
"""Property that every object carries: uid of its tenant. With isolation Filter every read, write
and delete is filtered by it; elsewhere it is written all the same."""


class Property(NamedTuple):
    """One property of a Weaviate collection, as the operator creates it."""

    name: str
    data_type: Literal["text", "int", "date"]
    filterable: bool = False
    searchable: bool = False
    tokenization: Literal["field", "word"] | None = None
    """Of text properties; None leaves Weaviate's default, which nothing then uses."""


DOCUMENT_PROPERTIES: Final = (
    Property(OWNER, "text", filterable=True, tokenization="field"),
    Property("document_id", "text", filterable=True, tokenization="field"),
    Property("version", "text", filterable=True, tokenization="field"),
    Property("sha256", "text", tokenization="field"),
    Property("title", "text"),
    Property("metadata", "text"),
    Property("chunks", "int"),
    Property("bytes", "int"),
    Property("created_at", "date"),
    Property("updated_at", "date"),
)
"""Objects of the documents' collection: one per document, without a vector. `version` is the one
that queries see; `metadata` is JSON."""

CHUNK_PROPERTIES: Final = (
    Property(OWNER, "text", filterable=True, tokenization="field"),
    Property("document_id", "text", filterable=True, tokenization="field"),
    Property("version", "text", filterable=True, tokenization="field"),
    Property("position", "int"),
    Property("text", "text", searchable=True, tokenization="word"),
    Property("heading", "text", searchable=True, tokenization="word"),
    Property("start", "int"),
    Property("end", "int"),
    Property("title", "text"),
)
"""Objects of the chunks' collection, each with the vector of its text. `start` and `end` count
characters of the document's text."""
