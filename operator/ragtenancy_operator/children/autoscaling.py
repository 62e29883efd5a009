"""The HorizontalPodAutoscaler of the API."""

from ragtenancy_operator.children.base import Context, manifest
from ragtenancy_operator.names import Component
from ragtenancy_operator.store import Manifest


def build(context: Context) -> list[Manifest]:
    """The API's autoscaler; none when the spec gives a number of pods."""
    settings = context.deployment.spec.api.autoscaling
    if settings is None:
        return []
    name = context.child(Component.API)
    target = {"type": "Utilization", "averageUtilization": settings.target_cpu}
    return [
        manifest(
            context,
            "autoscaling/v2",
            "HorizontalPodAutoscaler",
            name,
            Component.API,
            spec={
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
                "minReplicas": settings.min_replicas,
                "maxReplicas": settings.max_replicas,
                "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
            },
        )
    ]
