"""What a RAGDeployment's children should be. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from ragtenancy_api.deployment import RAGDeployment
from ragtenancy_operator.children import (
    api,
    monitoring,
    network_policy,
    redis,
    vllm,
    weaviate,
)
from ragtenancy_operator.children.base import Context, managed
from ragtenancy_operator.names import LABEL_COMPONENT, Component
from ragtenancy_operator.store import Manifest, key_of, labels_of

_PRUNED: Final = frozenset(
    {
        "Deployment",
        "HTTPRoute",
        "HorizontalPodAutoscaler",
        "Ingress",
        "Job",
        "NetworkPolicy",
        "StatefulSet",
        "Service",
        "PersistentVolumeClaim",
        "PodDisruptionBudget",
        "Role",
        "RoleBinding",
        "ServiceAccount",
        "ServiceMonitor",
    }
)
"""Kinds of which a child that is no longer wanted is deleted."""


def images(deployment: RAGDeployment, defaults: Mapping[str, str]) -> dict[str, str]:
    """Image by managed component that names none.

    What the status recorded when the component was first made stays, so that a new operator does
    not roll every GPU pod at once. Only the API's image follows the operator's: the two share
    their wiring.
    """
    recorded = dict(deployment.status.images or {})
    recorded.pop(Component.API, None)
    return {
        component: recorded.get(component) or defaults[component]
        for component, settings in managed(deployment).items()
        if settings.image is None
    }


def wanted(context: Context) -> dict[str, list[Manifest]]:
    """Every child that should be there, by component, in the order of their making."""
    built = {
        Component.WEAVIATE: weaviate.build(context),
        Component.STATE: redis.build_state(context),
        Component.CACHE: redis.build_cache(context),
        Component.EMBEDDING: vllm.build(context, Component.EMBEDDING),
        Component.GENERATION: vllm.build(context, Component.GENERATION),
        Component.API: api.build(context),
    }
    # the policy first: no pod is to run without it
    return {
        component: [
            *network_policy.build(context, component),
            *manifests,
            *monitoring.build(context, component),
        ]
        if manifests
        else []
        for component, manifests in built.items()
    }


def unwanted(
    children: Iterable[Manifest], keep: Mapping[str, Sequence[Manifest]], owner_uid: str
) -> list[Manifest]:
    """Children of the deployment that no component wants any more."""
    kept = {key_of(manifest) for manifests in keep.values() for manifest in manifests}
    return [
        child
        for child in children
        if child["kind"] in _PRUNED
        and key_of(child) not in kept
        and LABEL_COMPONENT in labels_of(child)
        and not child["metadata"].get("deletionTimestamp")
        and any(
            owner.get("uid") == owner_uid
            for owner in child["metadata"].get("ownerReferences") or ()
        )
    ]
