"""Where in a RAGDeployment's spec stands what the API server rejects in a child. Pure."""

import re
from collections.abc import Callable, Iterable
from typing import Final

from ragtenancy_api.pods import PodSettings
from ragtenancy_operator.children.base import Context, managed
from ragtenancy_operator.errors import Refused, Rejected
from ragtenancy_operator.names import Component
from ragtenancy_operator.store import Manifest

Where = Callable[[re.Match[str]], str | None]
"""The field that a match is about; None when it is none of the user's."""

_PATHS: Final = {
    Component.WEAVIATE: "vectorStore.weaviate.managed",
    Component.STATE: "state.redis.managed",
    Component.CACHE: "cache.redis.managed",
    Component.EMBEDDING: "embedding.vllm",
    Component.GENERATION: "generation.vllm",
    Component.API: "api",
}
_SAME: Final = (
    "affinity",
    "topologySpreadConstraints",
    "nodeSelector",
    "tolerations",
    "priorityClassName",
    "runtimeClassName",
    "imagePullSecrets",
)
_POD: Final = r"spec\.template\.spec\."
_MAIN: Final = _POD + r"containers(?:\[0\]|\[name=\"[^\"]*\"\])?\."
_TAIL: Final = r"(?P<tail>(?:\.[A-Za-z]\w*|\[[^\]]*\])*)"


_WORKLOADS: Final = frozenset({"Deployment", "Job", "StatefulSet"})


def _same(field: str) -> Where:
    return lambda found: f"{field}{found['tail']}"


_OF_KIND: Final[dict[str, list[tuple[str, Where]]]] = {
    "Ingress": [
        (r"spec\.(?:rules\[0\]\.host|tls\[0\]\.hosts)", lambda _: "ingress.host"),
        (r"spec\.tls", lambda _: "tls.secretName"),
        (r"spec\.ingressClassName", lambda _: "ingress.className"),
        (r"metadata\.annotations", _same("ingress.annotations")),
    ],
    "HTTPRoute": [
        (r"spec\.parentRefs", _same("httpRoute.parentRefs")),
        (r"spec\.hostnames", _same("httpRoute.hostnames")),
    ],
    "HorizontalPodAutoscaler": [(r"spec\.m\w+Replicas", lambda _: "autoscaling")],
}


def _extra(field: str, extra: int, total: int) -> Where:
    """An item of the settings, which stand behind the component's own in the child."""

    def where(found: re.Match[str]) -> str | None:
        tail = found["tail"]
        index = re.match(r"\[(\d+)\]", tail)
        if index is None:
            return f"{field}{tail}" if extra else None
        place = int(index[1]) - (total - extra)
        return f"{field}[{place}]{tail[index.end() :]}" if place >= 0 else None

    return where


def _of_pods(settings: PodSettings, manifests: Iterable[Manifest]) -> list[tuple[str, Where]]:
    pods = [manifest["spec"]["template"]["spec"] for manifest in manifests]
    volumes = sum(len(pod["volumes"]) for pod in pods)
    mounts = sum(len(pod["containers"][0]["volumeMounts"]) for pod in pods)
    extra, extra_mounts = settings.extra_volumes or (), settings.extra_volume_mounts or ()
    return [
        *((f"{_POD}{name}", _same(name)) for name in _SAME),
        (f"{_POD}volumes", _extra("extraVolumes", len(extra), volumes)),
        (f"{_MAIN}volumeMounts", _extra("extraVolumeMounts", len(extra_mounts), mounts)),
        *((f"{_MAIN}{name}", _same(name)) for name in ("resources", "env", "image")),
        (r"spec\.template\.(?:metadata\.)?annotations", _same("podAnnotations")),
        (r"spec\.template\.(?:metadata\.)?labels", _same("podLabels")),
    ]


def in_spec(
    context: Context, component: str, manifests: Iterable[Manifest], error: Rejected
) -> Refused:
    """The same rejection, with the field of the spec where it can be told.

    Args:
        context: The deployment.
        component: The component whose child is rejected.
        manifests: What the component was to be.
        error: What the API server said.
    """
    kind = error.child.partition("/")[0]
    if kind in _WORKLOADS:
        same = [manifest for manifest in manifests if manifest["kind"] == kind]
        fields = _of_pods(managed(context.deployment)[component], same)
    else:
        fields = _OF_KIND.get(kind, [])
    for pattern, where in fields:
        found = re.search(rf"{pattern}(?![A-Za-z]){_TAIL}", error.detail)
        place = where(found) if found else None
        if place is not None:
            path = f"spec.{_PATHS[component]}.{place}"
            return Refused("Rejected", f"{path}: {error.message}")
    return error
