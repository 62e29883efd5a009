"""On which nodes a component's pods go when its settings do not say."""

from typing import Any, Final, NamedTuple

from ragtenancy_api.deployment import RAGDeployment
from ragtenancy_operator import names
from ragtenancy_operator.names import Component

_HOST: Final = "kubernetes.io/hostname"
_ZONE: Final = "topology.kubernetes.io/zone"
_ONE_POD: Final = frozenset({Component.STATE, Component.CACHE})


class Placement(NamedTuple):
    """Affinity and topologySpreadConstraints of a pod; empty where there are none."""

    affinity: dict[str, Any]
    spread: list[dict[str, Any]]


def _preferred(selector: dict[str, Any]) -> dict[str, Any]:
    term = {"labelSelector": selector, "topologyKey": _HOST}
    return {
        "preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 100, "podAffinityTerm": term}
        ]
    }


def _together(deployment: RAGDeployment) -> list[str]:
    """Components that have to be on one node: they mount claims that only one node can."""
    spec = deployment.spec
    models = {Component.EMBEDDING: spec.embedding.vllm, Component.GENERATION: spec.generation.vllm}
    held = [
        component
        for component, vllm in models.items()
        if vllm and vllm.model_cache.persistent_volume_claim.access_mode == "ReadWriteOnce"
    ]
    downloads = [names.download(component) for component in held]
    return [*held, *downloads, Component.API] if held else []


def default(deployment: RAGDeployment, component: str) -> Placement:
    """Where a component's pods should be; never more than a wish.

    Apart, over nodes and zones: but pods that share a ReadWriteOnce claim near each other, as they
    could not start elsewhere. It does not depend on the number of pods, so that a second one does
    not roll the first.
    """
    if component in _ONE_POD:
        return Placement({}, [])
    together = _together(deployment)
    name = deployment.metadata.name
    if component in together:
        among = {"key": names.LABEL_COMPONENT, "operator": "In", "values": together}
        selector = {
            "matchLabels": {names.LABEL_DEPLOYMENT: name},
            "matchExpressions": [among],
        }
        return Placement({"podAffinity": _preferred(selector)}, [])
    own = {"matchLabels": names.selector(name, component)}
    zones = {
        "maxSkew": 1,
        "topologyKey": _ZONE,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": own,
    }
    return Placement({"podAntiAffinity": _preferred(own)}, [zones])
