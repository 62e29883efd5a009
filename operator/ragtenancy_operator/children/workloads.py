"""The two kinds of workload that components run as."""

from collections.abc import Mapping
from typing import Any, Final

from ragtenancy_api.pods import Storage
from ragtenancy_operator.children.base import Context, claim_spec, labels, manifest, selector
from ragtenancy_operator.store import Manifest

VOLUME: Final = "data"
"""Name of a StatefulSet's volume; its claims are VOLUME-SET-0 and so on."""


def deployment(
    context: Context,
    component: str,
    template: Mapping[str, Any],
    *,
    replicas: int | None,
    strategy: Mapping[str, Any],
    **spec: Any,
) -> Manifest:
    """A Deployment named after its component; without ``replicas`` where an autoscaler has them."""
    if replicas is not None:
        spec["replicas"] = replicas
    return manifest(
        context,
        "apps/v1",
        "Deployment",
        context.child(component),
        component,
        spec={
            "strategy": dict(strategy),
            "selector": {"matchLabels": selector(context, component)},
            "template": dict(template),
            **spec,
        },
    )


def rolling(*, surge: int, unavailable: int) -> dict[str, Any]:
    """A rolling update's strategy."""
    return {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable},
    }


def budget(context: Context, component: str, most: int | None) -> list[Manifest]:
    """How many of a component's pods a drain may take at once: one.

    Args:
        context: The deployment.
        component: The component.
        most: Pods that there can be; None when somebody else decides. A single pod has no budget:
            it could only keep a node from being drained.
    """
    if most is not None and most <= 1:
        return []
    return [
        manifest(
            context,
            "policy/v1",
            "PodDisruptionBudget",
            context.child(component),
            component,
            spec={
                "maxUnavailable": 1,
                "selector": {"matchLabels": selector(context, component)},
                # a pod that does not serve is in nobody's way
                "unhealthyPodEvictionPolicy": "AlwaysAllow",
            },
        )
    ]


def stateful_set(
    context: Context,
    component: str,
    template: Mapping[str, Any],
    storage: Storage,
    *,
    service: str,
    replicas: int = 1,
    **spec: Any,
) -> Manifest:
    """A StatefulSet whose pods have a volume named data each.

    The volumes go with it unless they are retained. They carry our labels, so that they are seen.
    """
    data = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": VOLUME, "labels": labels(context, component)},
        "spec": claim_spec(storage.size, storage.storage_class_name),
    }
    return manifest(
        context,
        "apps/v1",
        "StatefulSet",
        context.child(component),
        component,
        spec={
            "replicas": replicas,
            "serviceName": service,
            "selector": {"matchLabels": selector(context, component)},
            "template": dict(template),
            "persistentVolumeClaimRetentionPolicy": {
                "whenDeleted": "Retain" if storage.retain else "Delete",
                "whenScaled": "Retain",
            },
            "volumeClaimTemplates": [data],
            **spec,
        },
    )
