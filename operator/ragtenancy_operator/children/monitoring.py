"""What the Prometheus operator scrapes: a Service for each component's metrics, and its monitor.

The metrics have a Service of their own: those that clients use are not to show the internal port.
"""

from typing import Final

from ragtenancy_api import wiring
from ragtenancy_operator import names
from ragtenancy_operator.children import vllm, weaviate
from ragtenancy_operator.children.base import Context, labels, manifest, service
from ragtenancy_operator.names import Component
from ragtenancy_operator.store import Manifest

PORTS: Final = {
    Component.WEAVIATE: weaviate.METRICS_PORT,
    Component.EMBEDDING: vllm.PORT,
    Component.GENERATION: vllm.PORT,
    Component.API: wiring.INTERNAL_PORT,
}
"""Port of each component's metrics. Redis has none of its own."""
_PORT: Final = "metrics"


def build(context: Context, component: str) -> list[Manifest]:
    """The objects for a component's metrics; none when nobody scrapes them."""
    settings = context.deployment.spec.observability.service_monitor
    if not settings.enabled or component not in PORTS:
        return []
    name = context.child(component, _PORT)
    # headless, and also for pods that are not ready: those most of all
    front = service(context, name, component, {_PORT: PORTS[component]}, headless=True)
    front["metadata"]["labels"] = {**labels(context, component), names.LABEL_METRICS: "true"}
    monitor = manifest(
        context,
        "monitoring.coreos.com/v1",
        "ServiceMonitor",
        context.child(component),
        component,
        spec={
            "selector": {
                "matchLabels": {
                    **names.selector(context.name, component),
                    names.LABEL_METRICS: "true",
                }
            },
            "endpoints": [{"port": _PORT, "interval": settings.interval}],
        },
    )
    own = monitor["metadata"]["labels"]
    monitor["metadata"]["labels"] = {**(settings.labels or {}), **own}
    return [front, monitor]
