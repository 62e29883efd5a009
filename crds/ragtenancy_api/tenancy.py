"""What a RAGDeployment lets its tenants do: from where, what they get, what they cannot pass."""

from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field

from ragtenancy_api.meta import LabelSelector, Model, rule, rules
from ragtenancy_api.settings import (
    CacheSettings,
    GenerationSettings,
    IdleSettings,
    Isolation,
    Quotas,
    RetrievalSettings,
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


class TenantDefaults(Model):
    """What a tenant gets that is silent about it."""

    quotas: Quotas = Field(default=Quotas(), description="What a tenant may use.")
    cache: CacheSettings = Field(
        default=CacheSettings(),
        description="How answers are cached. What is absent here is as spec.cache says.",
    )
    retrieval: RetrievalSettings = Field(
        default=RetrievalSettings(), description="How chunks are found."
    )
    generation: GenerationSettings = Field(
        default=GenerationSettings(), description="How answers are written."
    )
    idle: IdleSettings = Field(default=IdleSettings(), description="When a shard goes cold.")


class TenantLimits(Model):
    """What no tenant can pass; a tenant that asks for more is not accepted."""

    quotas: Quotas = Field(
        default=Quotas(),
        description="Highest quotas. A tenant that asks for none, and gets none by default, has "
        "these.",
    )
    isolations: list[Isolation] | None = Field(
        default=None,
        min_length=1,
        max_length=3,
        description="Kinds of isolation that tenants may choose; all when absent.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    max_keys: Annotated[int, Field(ge=1, le=16)] | None = Field(
        default=None, description="API keys that a tenant may have, at most."
    )


_QUOTAS: Final = ("requestsPerMinute", "burst", "tokensPerMinute", "concurrentRequests")
_DEFAULTS_WITHIN_LIMITS: Final = [
    rule(
        f"!has(self.defaults.quotas.{name}) || !has(self.limits.quotas.{name}) || "
        f"self.defaults.quotas.{name} <= self.limits.quotas.{name}",
        f"defaults.quotas.{name} must not pass limits.quotas.{name}",
    )
    for name in _QUOTAS
]


class Tenants(Model):
    """What the platform lets tenants do."""

    model_config = ConfigDict(json_schema_extra=rules(*_DEFAULTS_WITHIN_LIMITS))

    allowed_namespaces: AllowedNamespaces = Field(
        default=AllowedNamespaces(), description="Namespaces whose RAGTenants are accepted."
    )
    defaults: TenantDefaults = Field(
        default=TenantDefaults(), description="What a tenant gets that is silent about it."
    )
    limits: TenantLimits = Field(default=TenantLimits(), description="What no tenant can pass.")
