"""Where a RAGDeployment keeps things: Weaviate, and the two Redis."""

from typing import Literal

from pydantic import ConfigDict, Field

from ragtenancy_api.meta import (
    HTTPURL,
    ClientTLS,
    Model,
    Quantity,
    SecretKeyRef,
    exactly_one,
    rule,
    rules,
)
from ragtenancy_api.pods import PodSettings, Storage
from ragtenancy_api.settings import ExactCache


def _same_choice(choice: str, what: str) -> dict[str, str]:
    return rule(
        f"has(self.{choice}) == has(oldSelf.{choice})",
        f"a {what} cannot change between managed and external: what it holds would be lost. "
        "Declare a new RAGDeployment and move the tenants there",
    )


class ManagedWeaviate(PodSettings):
    """A Weaviate that the operator runs."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "self.replicas >= oldSelf.replicas",
                "replicas can only grow: a Weaviate that is taken away takes its shards with it. "
                "Declare a new RAGDeployment and load the documents there",
            ),
            rule("self.replicas in [1, 3, 5]", "replicas must be 1, 3 or 5: raft needs a majority"),
        )
    )

    replicas: int = Field(
        default=1, ge=1, le=5, description="Number of pods: 1, 3 or 5. It can only grow."
    )
    storage: Storage = Field(default=Storage(), description="Volume of each Weaviate pod.")


class ExternalWeaviate(Model):
    """A Weaviate that somebody else runs."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!has(self.tls) || self.httpUrl.startsWith('https://') || "
                "self.grpcUrl.startsWith('grpcs://')",
                "with tls, httpUrl must begin with https:// or grpcUrl with grpcs://",
            )
        )
    )

    http_url: HTTPURL = Field(description="URL of its REST API.")
    grpc_url: str = Field(
        pattern=r"^grpcs?://[^\s/]+$",
        max_length=1024,
        description="Address of its gRPC API: grpc://HOST:PORT, or grpcs:// for TLS.",
    )
    api_key_secret_ref: SecretKeyRef | None = Field(
        default=None, description="Secret with its API key. Anonymous when absent."
    )
    tls: ClientTLS | None = Field(
        default=None, description="How its certificate is verified; by public CAs when absent."
    )


class Weaviate(Model):
    """The vector database, managed or external."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            exactly_one("managed", "external"), _same_choice("managed", "vector store")
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
    replication_factor: int | None = Field(
        default=None,
        ge=1,
        le=5,
        description="Copies of each shard. When absent, 3 where Weaviate has three pods or more, "
        "else 1.",
    )


class VectorStore(Model):
    """Where documents and their vectors are kept."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!has(self.weaviate.managed) || !has(self.collection.replicationFactor) || "
                "self.collection.replicationFactor <= self.weaviate.managed.replicas",
                "collection.replicationFactor must not pass weaviate.managed.replicas",
            )
        )
    )

    weaviate: Weaviate = Field(description="The Weaviate that holds them.")
    collection: Collection = Field(
        default=Collection(),
        description="How chunks are indexed.",
        json_schema_extra=rules(
            rule(
                "self == oldSelf",
                "the index, its quantization and the replication factor are immutable: Weaviate "
                "builds them into the collection. Declare a new RAGDeployment and load the "
                "documents there",
            )
        ),
    )
    max_active_tenants: int = Field(
        default=2000,
        ge=1,
        le=100_000,
        description="Tenants whose shards are open at the same time; beyond it the least recently "
        "used go cold. A hot shard costs open files and memory.",
    )


class ExternalRedis(Model):
    """A Redis that somebody else runs."""

    url_secret_ref: SecretKeyRef = Field(
        description="Secret with its URL: redis://USER:PASSWORD@HOST:PORT/DB, or rediss:// for TLS."
    )
    tls: ClientTLS | None = Field(
        default=None, description="How its certificate is verified; by public CAs when absent."
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
            exactly_one("managed", "external"), _same_choice("managed", "state Redis")
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

    model_config = ConfigDict(json_schema_extra=rules(exactly_one("managed", "external")))

    managed: ManagedCacheRedis | None = Field(default=None, description="Run by the operator.")
    external: ExternalRedis | None = Field(default=None, description="Run by somebody else.")


class Cache(Model):
    """Where answers are cached, and how for tenants that do not say."""

    redis: CacheRedis = Field(description="The Redis that holds them.")
    exact: ExactCache = Field(
        default=ExactCache(), description="The exact cache, for tenants that do not say."
    )
