"""What the platform lets no tenant pass. Pure."""

from ragtenancy_api.settings import Quotas
from ragtenancy_api.tenancy import TenantLimits
from ragtenancy_api.tenant import RAGTenantSpec


def _wire_name(field: str) -> str:
    return Quotas.model_fields[field].alias or field


def passed(spec: RAGTenantSpec, limits: TenantLimits, deployment: str) -> list[str]:
    """What of a tenant's spec passes a limit: a sentence for each, with the field's path.

    Args:
        spec: What the tenant asks for.
        limits: What its deployment allows.
        deployment: NAMESPACE/NAME of the RAGDeployment, for the sentences.
    """
    whose = f"of RAGDeployment {deployment}"
    sentences = []
    for field in Quotas.model_fields:
        asked, limit = getattr(spec.quotas, field), getattr(limits.quotas, field)
        if asked is not None and limit is not None and asked > limit:
            path = f"spec.quotas.{_wire_name(field)}"
            sentences.append(f"{path}: {asked} passes the limit {limit} {whose}")
    allowed = limits.isolations
    if allowed is not None and spec.isolation not in allowed:
        sentences.append(
            f"spec.isolation: {spec.isolation} is not in the limit {', '.join(allowed)} {whose}"
        )
    if too_many_keys(spec, limits):
        sentences.append(
            f"spec.apiKeys: {len(spec.api_keys)} keys pass the limit {limits.max_keys} {whose}"
        )
    return sentences


def too_many_keys(spec: RAGTenantSpec, limits: TenantLimits) -> bool:
    """Whether a tenant asks for more keys than it may have."""
    return limits.max_keys is not None and len(spec.api_keys) > limits.max_keys


def held(quotas: Quotas, limits: Quotas) -> Quotas:
    """The quotas within the limits; who has none has the limit.

    ``burst`` is ``requestsPerMinute`` when nobody says: its limit makes it no larger than that.
    """
    effective = quotas.model_dump()
    for field, limit in limits.model_dump(exclude_none=True).items():
        value = effective[field]
        effective[field] = limit if value is None else min(value, limit)
    pace = effective["requests_per_minute"]
    if quotas.burst is None and pace is not None and effective["burst"] is not None:
        effective["burst"] = min(effective["burst"], pace)
    return Quotas(**effective)
