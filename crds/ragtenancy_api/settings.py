"""What can be set for a tenant: by itself, by its deployment's defaults, and in effect.

A tenant that is silent about a field gets its deployment's default, else the product's. So in a
RAGTenant and in ``tenants.defaults`` every field may be absent (the ``...Settings`` classes), and
in a RAGBinding none is (their subclasses).
"""

from typing import Literal

from pydantic import Field

from ragtenancy_api.meta import Duration, Model

Isolation = Literal["Shard", "Collection", "Filter"]
RetrievalMode = Literal["Hybrid", "Vector", "Keyword", "None"]
Role = Literal["Reader", "Writer"]


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


class ExactCacheSettings(Model):
    """The cache of answers to the very same request."""

    enabled: bool | None = Field(default=None, description="Whether answers are cached.")
    ttl: Duration | None = Field(default=None, description="How long an answer is kept.")


class ExactCache(ExactCacheSettings):
    """The cache of answers to the very same request."""

    enabled: bool = Field(default=True, description="Whether answers are cached.")
    ttl: Duration = Field(default="1h", description="How long an answer is kept.")


class CacheSettings(Model):
    """How a tenant's answers are cached."""

    exact: ExactCacheSettings = Field(
        default=ExactCacheSettings(), description="The cache of answers to the very same request."
    )


class EffectiveCache(CacheSettings):
    """How answers are cached, with every default filled in."""

    exact: ExactCache = Field(default=ExactCache(), description="The exact cache.")


class RetrievalSettings(Model):
    """How chunks are found for a question."""

    mode: RetrievalMode | None = Field(
        default=None,
        description="Hybrid: vectors and BM25, fused. Vector and Keyword: one of them. None: no "
        "retrieval, a plain gateway to the model. Hybrid when nobody says.",
    )
    top_k: int | None = Field(
        default=None, ge=1, le=100, description="Chunks that are retrieved; 4 when nobody says."
    )
    max_context_tokens: int | None = Field(
        default=None,
        ge=16,
        le=1_000_000,
        description="Tokens of the prompt that chunks may take, at most; 1024 when nobody says.",
    )


class Retrieval(RetrievalSettings):
    """How chunks are found, with every default filled in."""

    mode: RetrievalMode = Field(default="Hybrid", description="How chunks are found.")
    top_k: int = Field(default=4, ge=1, le=100, description="Chunks that are retrieved.")
    max_context_tokens: int = Field(
        default=1024, ge=16, le=1_000_000, description="Tokens that chunks may take, at most."
    )


class GenerationSettings(Model):
    """How answers are written."""

    system_prompt: str | None = Field(
        default=None, max_length=16_384, description="Instructions put before every conversation."
    )
    temperature: float | None = Field(
        default=None,
        ge=0,
        le=2,
        description="Temperature of a request that gives none; 0 when nobody says.",
    )
    max_tokens: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="Longest answer, in tokens; 512 when nobody says.",
    )


class TenantGeneration(GenerationSettings):
    """How answers are written, with every default filled in."""

    temperature: float = Field(
        default=0.0, ge=0, le=2, description="Temperature of a request that gives none."
    )
    max_tokens: int = Field(
        default=512, ge=1, le=1_000_000, description="Longest answer, in tokens."
    )


class IdleSettings(Model):
    """When a tenant's shard goes cold."""

    deactivate_after: Duration | None = Field(
        default=None,
        description="A tenant that was not used for so long is put to sleep: its shard is closed "
        "until the next request, which wakes it in milliseconds. 72h when nobody says.",
    )


class Idle(IdleSettings):
    """When a tenant's shard goes cold, with the default filled in."""

    deactivate_after: Duration = Field(
        default="72h", description="A tenant that was not used for so long is put to sleep."
    )
