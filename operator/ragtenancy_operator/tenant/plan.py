"""What belongs to a RAGTenant: whether it is accepted, and its binding. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

from ragtenancy_api.binding import (
    BoundDeployment,
    BoundKey,
    Placement,
    RAGBindingSpec,
    Settings,
    TenantRef,
)
from ragtenancy_api.meta import API_VERSION, LabelSelector, LabelSelectorRequirement, Model
from ragtenancy_api.settings import (
    EffectiveCache,
    ExactCache,
    Idle,
    Quotas,
    Retrieval,
    TenantGeneration,
)
from ragtenancy_api.tenancy import AllowedNamespaces
from ragtenancy_api.tenant import RAGTenant
from ragtenancy_api.wiring import SHARED_TENANT
from ragtenancy_operator import names
from ragtenancy_operator.children.base import Context
from ragtenancy_operator.conditions import Verdict, no, yes
from ragtenancy_operator.store import Manifest
from ragtenancy_operator.tenant import keys, limits, restore
from ragtenancy_operator.tenant.observe import Observed

M = TypeVar("M", bound=Model)

LIMIT_EXCEEDED: Final = "LimitExceeded"
"""Reason of a tenant that asks for more than the platform lets it have."""


def _meets(requirement: LabelSelectorRequirement, labels: Mapping[str, str]) -> bool:
    value = labels.get(requirement.key)
    match requirement.operator:
        case "In":
            return value in requirement.values
        case "NotIn":
            return value not in requirement.values
        case "Exists":
            return value is not None
        case _:
            return value is None


def selects(selector: LabelSelector, labels: Mapping[str, str]) -> bool:
    """Whether a label selector matches, as Kubernetes defines it; an empty one matches all."""
    exact = selector.match_labels or {}
    return all(labels.get(key) == value for key, value in exact.items()) and all(
        _meets(requirement, labels) for requirement in selector.match_expressions or ()
    )


def allows(rule: AllowedNamespaces, home: str, namespace: str, labels: Mapping[str, str]) -> bool:
    """Whether a deployment in ``home`` accepts tenants of a namespace."""
    if rule.from_ == "All" or namespace == home:
        return True
    return rule.from_ == "Selector" and selects(rule.selector or LabelSelector(), labels)


def accepted(observed: Observed) -> Verdict:
    """Whether the deployment is there and takes this tenant."""
    tenant, context = observed.tenant, observed.deployment
    reference = tenant.spec.deployment_ref
    path = f"{reference.namespace}/{reference.name}"
    if context is None or context.deployment.metadata.deletion_timestamp:
        state = "does not exist" if context is None else "is being deleted"
        return no(
            "Accepted",
            "DeploymentNotFound",
            f"RAGDeployment {path} {state}. It is looked for all the time; deploymentRef cannot "
            "be changed: if it is wrong, delete this RAGTenant and make it anew",
        )
    rule = context.deployment.spec.tenants.allowed_namespaces
    if not allows(rule, reference.namespace, tenant.metadata.namespace, observed.namespace_labels):
        return no(
            "Accepted",
            "NamespaceNotAllowed",
            f"RAGDeployment {path} takes no tenants from namespace {tenant.metadata.namespace} "
            f"(tenants.allowedNamespaces.from is {rule.from_}). Ask its owner to allow it",
        )
    if sentences := limits.passed(tenant.spec, context.deployment.spec.tenants.limits, path):
        advice = "Ask for less, or ask the platform to raise the limit"
        return no("Accepted", LIMIT_EXCEEDED, f"{'; '.join(sentences)}. {advice}")
    if observed.binding is None and tenant.spec.restore_from is not None:
        refusal = restore.refusal(tenant, observed.origin)
        if refusal is not None:
            return refusal
    return yes("Accepted", "Accepted", f"RAGDeployment {path}")


def merged(effective: type[M], *layers: Model) -> M:
    """One kind of settings: what a later layer says goes before what an earlier one does."""
    said: dict[str, Any] = {}
    for layer in layers:
        said |= layer.model_dump(exclude_none=True)
    return effective(**said)


def settings(tenant: RAGTenant, context: Context) -> Settings:
    """What holds for the tenant: the deployment's defaults filled in, within its limits."""
    spec, platform = tenant.spec, context.deployment.spec
    defaults, most = platform.tenants.defaults, platform.tenants.limits.quotas
    return Settings(
        quotas=limits.held(merged(Quotas, defaults.quotas, spec.quotas), most),
        cache=EffectiveCache(
            exact=merged(ExactCache, platform.cache.exact, defaults.cache.exact, spec.cache.exact)
        ),
        retrieval=merged(Retrieval, defaults.retrieval, spec.retrieval),
        generation=merged(TenantGeneration, defaults.generation, spec.generation),
        idle=merged(Idle, defaults.idle, spec.idle),
    )


def placement(observed: Observed, context: Context) -> Placement:
    """Where the tenant's documents are: where its binding says, which is the truth about it.

    Before it has one: where they are to be, or where those are that it takes over.
    """
    if observed.binding is not None:
        return observed.binding.spec.placement
    if observed.origin is not None and restore.refusal(observed.tenant, observed.origin) is None:
        return observed.origin.spec.placement
    isolation, uid = observed.tenant.spec.isolation, observed.tenant.metadata.uid
    documents, chunks = names.collections(
        uid if isolation == "Collection" else context.deployment.metadata.uid
    )
    shared = isolation == "Filter"
    return Placement(
        documents=documents,
        chunks=chunks,
        tenant=SHARED_TENANT if shared else uid,
        isolation=isolation,
        owner=uid if shared else None,
    )


def binding(
    observed: Observed, context: Context, working: Sequence[BoundKey], *, shut: bool = False
) -> Manifest:
    """The tenant's binding.

    Args:
        observed: The tenant.
        context: Its deployment.
        working: The keys that work.
        shut: Whether nothing is to be served although the tenant does not ask for that.
    """
    tenant = observed.tenant
    metadata = tenant.metadata
    spec = RAGBindingSpec(
        tenant_ref=TenantRef(namespace=metadata.namespace, name=metadata.name, uid=metadata.uid),
        deployment_ref=BoundDeployment(name=context.name),
        placement=placement(observed, context),
        keys=list(working),
        settings=settings(tenant, context),
        suspended=tenant.spec.suspended or shut,
        deletion_policy=tenant.spec.deletion_policy,
    )
    return binding_manifest(spec, context.namespace)


def binding_manifest(spec: RAGBindingSpec, namespace: str) -> dict[str, Any]:
    """A binding's manifest. It has no owner: its tenant lives in another namespace."""
    reference = spec.tenant_ref
    return {
        "apiVersion": API_VERSION,
        "kind": "RAGBinding",
        "metadata": {
            "name": reference.uid,
            "namespace": namespace,
            "labels": {
                names.LABEL_MANAGED_BY: names.MANAGER,
                names.LABEL_PART_OF: names.MANAGER,
                names.LABEL_DEPLOYMENT: spec.deployment_ref.name,
                names.LABEL_TENANT_UID: reference.uid,
            },
            "finalizers": [names.FINALIZER],
        },
        "spec": spec.wire(),
    }


def children(observed: Observed, context: Context) -> list[Manifest]:
    """What an accepted tenant's children should be, with the keys that it is known to have."""
    held = observed.binding.spec.keys if observed.binding else []
    issues = context.deployment.spec.api.auth.api_keys.enabled
    return [
        *(
            keys.key_secret(observed, context, key)
            for key in observed.tenant.spec.api_keys
            if issues and key.secret_ref is None
        ),
        binding(observed, context, held),
    ]
