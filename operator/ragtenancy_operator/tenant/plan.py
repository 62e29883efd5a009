"""What belongs to a RAGTenant: whether it is accepted, its Secrets, its binding. Pure."""

import base64
import hashlib
import secrets as random
from collections.abc import Mapping
from typing import Any, TypeVar

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
from ragtenancy_api.tenant import APIKey, RAGTenant
from ragtenancy_operator import names
from ragtenancy_operator.apply import stamped
from ragtenancy_operator.children import api
from ragtenancy_operator.children.base import Context, owned_by
from ragtenancy_operator.conditions import Verdict, no, yes
from ragtenancy_operator.store import Manifest, annotations_of, labels_of
from ragtenancy_operator.tenant.observe import Observed

M = TypeVar("M", bound=Model)


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
    """Whether the deployment is there and takes tenants of this namespace."""
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
    return yes("Accepted", "Accepted", f"RAGDeployment {path}")


def secret_name(tenant: RAGTenant, key: APIKey) -> str:
    """Name of a key's Secret."""
    return key.secret_name or names.key_secret(tenant.metadata.name, key.name)


def _secret(observed: Observed, key: APIKey, data: Mapping[str, str]) -> Manifest:
    tenant = observed.tenant
    metadata = tenant.metadata
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": secret_name(tenant, key),
            "namespace": metadata.namespace,
            "labels": {
                names.LABEL_MANAGED_BY: names.MANAGER,
                names.LABEL_PART_OF: names.MANAGER,
                names.LABEL_TENANT: metadata.name,
                names.LABEL_TENANT_UID: metadata.uid,
                names.LABEL_KEY: key.name,
            },
            "ownerReferences": owned_by(
                {
                    "apiVersion": API_VERSION,
                    "kind": "RAGTenant",
                    "name": metadata.name,
                    "uid": metadata.uid,
                }
            ),
        },
        "type": "Opaque",
        "data": {entry: base64.b64encode(value.encode()).decode() for entry, value in data.items()},
    }


def key_secret(observed: Observed, context: Context, key: APIKey) -> Manifest:
    """The Secret of a key, without the key: what may be applied again and again."""
    metadata = observed.tenant.metadata
    return _secret(
        observed,
        key,
        {
            names.ENTRY_BASE_URL: api.url(context),
            names.ENTRY_MODEL: context.deployment.spec.generation.model,
            names.ENTRY_TENANT: f"{metadata.namespace}/{metadata.name}",
        },
    )


def new_key_secret(observed: Observed, context: Context, key: APIKey) -> Manifest:
    """The Secret of a key with a fresh key of 256 random bits. To be created, never applied."""
    value = names.KEY_PREFIX + random.token_urlsafe(32)
    # stamped as what will be applied: the next pass then has nothing to write
    manifest = stamped(key_secret(observed, context, key))
    manifest["metadata"]["annotations"] |= {
        names.ANNOTATION_KEY_SHA256: hashlib.sha256(value.encode()).hexdigest()
    }
    manifest["data"] |= {names.ENTRY_API_KEY: base64.b64encode(value.encode()).decode()}
    return manifest


def key_id(sha256: str) -> str:
    """Identifier of a key in logs: the start of its hash."""
    return f"key-{sha256[:12]}"


def merged(effective: type[M], *layers: Model) -> M:
    """One kind of settings: what a later layer says goes before what an earlier one does."""
    said: dict[str, Any] = {}
    for layer in layers:
        said |= layer.model_dump(exclude_none=True)
    return effective(**said)


def settings(tenant: RAGTenant, context: Context) -> Settings:
    """What holds for the tenant, with the deployment's defaults filled in."""
    spec, platform = tenant.spec, context.deployment.spec
    defaults = platform.tenants.defaults
    return Settings(
        quotas=merged(Quotas, defaults.quotas, spec.quotas),
        cache=EffectiveCache(
            exact=merged(ExactCache, platform.cache.exact, defaults.cache.exact, spec.cache.exact)
        ),
        retrieval=merged(Retrieval, defaults.retrieval, spec.retrieval),
        generation=merged(TenantGeneration, defaults.generation, spec.generation),
        idle=merged(Idle, defaults.idle, spec.idle),
    )


def binding(observed: Observed, context: Context, keys: Mapping[str, str]) -> Manifest:
    """The tenant's binding.

    Args:
        observed: The tenant.
        context: Its deployment.
        keys: SHA-256 by the key's name.
    """
    tenant = observed.tenant
    metadata = tenant.metadata
    documents, chunks = names.collections(context.deployment.metadata.uid)
    spec = RAGBindingSpec(
        tenant_ref=TenantRef(namespace=metadata.namespace, name=metadata.name, uid=metadata.uid),
        deployment_ref=BoundDeployment(name=context.name),
        placement=Placement(documents=documents, chunks=chunks, tenant=metadata.uid),
        keys=[
            BoundKey(id=key_id(sha256), name=name, sha256=sha256) for name, sha256 in keys.items()
        ],
        settings=settings(tenant, context),
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
    """What an accepted tenant's children should be, with the keys that were issued so far."""
    issued = {
        labels_of(secret).get(names.LABEL_KEY): annotations_of(secret)[names.ANNOTATION_KEY_SHA256]
        for secret in observed.secrets
        if names.ANNOTATION_KEY_SHA256 in annotations_of(secret)
    }
    keys = observed.tenant.spec.api_keys
    return [
        *(key_secret(observed, context, key) for key in keys if key.secret_ref is None),
        binding(observed, context, {k.name: issued[k.name] for k in keys if k.name in issued}),
    ]
