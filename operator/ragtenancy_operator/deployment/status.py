"""What a RAGDeployment's status should say. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final

from ragtenancy_operator import conditions
from ragtenancy_operator.children import api
from ragtenancy_operator.children.base import Context, managed
from ragtenancy_operator.conditions import Verdict, no, unknown, yes
from ragtenancy_operator.errors import Refused, Unreachable
from ragtenancy_operator.names import LABEL_COMPONENT, Component
from ragtenancy_operator.store import Manifest, holds, labels_of

CONDITIONS: Final = {
    Component.WEAVIATE: "VectorStoreReady",
    Component.STATE: "StateReady",
    Component.CACHE: "CacheReady",
    Component.EMBEDDING: "EmbeddingReady",
    Component.GENERATION: "GenerationReady",
    Component.API: "APIReady",
}
_WAITING_FOR_LONG: Final = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "CrashLoopBackOff",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
    }
)


@dataclass(frozen=True)
class Workload:
    """The Deployment or StatefulSet of a component, with its pods."""

    obj: Manifest | None
    pods: Sequence[Manifest]


def pod_trouble(pods: Iterable[Manifest]) -> tuple[str, str] | None:
    """Reason and message of the first pod that cannot start by itself."""
    for pod in pods:
        name, status = pod["metadata"]["name"], pod.get("status", {})
        for condition in status.get("conditions") or ():
            if condition["type"] == "PodScheduled" and condition.get("reason") == "Unschedulable":
                return "Unschedulable", f"pod {name}: {condition.get('message', '')}"
        for container in status.get("containerStatuses") or ():
            waiting = container.get("state", {}).get("waiting") or {}
            if waiting.get("reason") in _WAITING_FOR_LONG:
                last = container.get("lastState", {}).get("terminated") or {}
                exit_code = f" (last exit code {last['exitCode']})" if "exitCode" in last else ""
                text = waiting.get("message", "")
                return waiting["reason"], f"pod {name}{exit_code}: {text}"
    return None


def workload(kind: str, component: Workload) -> Verdict:
    """Whether a Deployment or StatefulSet serves."""
    obj = component.obj
    if obj is None:
        return unknown(kind, "Creating", "its workload is not there yet")
    spec, status = obj["spec"], obj.get("status", {})
    wanted, ready = spec.get("replicas", 1), status.get("readyReplicas", 0)
    if wanted == 0:
        return no(kind, "ScaledToZero", "replicas is 0")
    current = status.get("observedGeneration", 0) >= obj["metadata"].get("generation", 0)
    available = obj["kind"] != "Deployment" or holds(obj, "Available")
    if current and available and ready >= 1:
        return yes(kind, "Ready", f"{ready} of {wanted} pods ready")
    trouble = pod_trouble(component.pods)
    if trouble:
        return no(kind, *trouble)
    return no(kind, "Starting", f"{ready} of {wanted} pods ready")


def _failed(kind: str, error: Exception) -> Verdict:
    if isinstance(error, Refused):
        return no(kind, error.reason, error.message)
    if isinstance(error, Unreachable):
        return no(kind, "Unreachable", f"{error}. It is asked again every few seconds")
    return unknown(kind, "Retrying", str(error))


def verdicts(
    context: Context,
    workloads: Mapping[str, Workload],
    failures: Mapping[str, Exception],
    notes: Mapping[str, Refused] = MappingProxyType({}),
    remarks: Mapping[str, str] = MappingProxyType({}),
    *,
    models: Mapping[str, Verdict] = MappingProxyType({}),
    resizing: Mapping[str, str] = MappingProxyType({}),
) -> list[Verdict]:
    """Every condition of a RAGDeployment.

    Args:
        context: The deployment.
        workloads: The workload of each managed component.
        failures: What went wrong in this pass, by component.
        notes: What a person has to mend although the component serves, by component.
        remarks: What else a person would want to know of a component that serves.
        models: The conditions of managed models, by component.
        resizing: Volumes that are growing, by component.
    """
    parts = []
    for component, kind in CONDITIONS.items():
        if component in failures:
            parts.append(_failed(kind, failures[component]))
        elif component in models:
            parts.append(models[component])
        elif component in workloads:
            parts.append(workload(kind, workloads[component]))
        else:
            parts.append(yes(kind, "External", "external, and it answers"))
        if component in resizing and parts[-1].true:
            text = f"{parts[-1].message}; {resizing[component]}"
            parts[-1] = replace(parts[-1], reason="Resizing", message=text)
        if component in remarks and parts[-1].true:
            parts[-1] = replace(parts[-1], message=f"{parts[-1].message}; {remarks[component]}")
    url = api.url(context)
    result = [yes("Accepted", "Accepted"), *parts]
    result.append(conditions.sum_up(result, f"serves tenants at {url}"))
    refusals = {c: error for c, error in failures.items() if isinstance(error, Refused)}
    # what keeps a component from serving comes before what only lacks
    stalled = [(CONDITIONS[c], error) for c, error in [*refusals.items(), *notes.items()]]
    if stalled:
        kind, error = stalled[0]
        result.append(yes("Stalled", error.reason, f"{kind}: {error.message}"))
    return result


def remarks(bindings: Iterable[Manifest], state_lost: str | None) -> dict[str, str]:
    """What is to be said of components that serve again, but have lost what they held.

    Args:
        bindings: The deployment's.
        state_lost: When its state Redis was found empty.
    """
    said: dict[str, str] = {}
    lost = sum(bool((each.get("status") or {}).get("lostAt")) for each in bindings)
    if lost:
        said[Component.WEAVIATE] = (
            f"{lost} tenants lost their documents, and say since when: load them again"
        )
    if state_lost is not None:
        said[Component.STATE] = (
            f"found empty at {state_lost}: usage is counted anew since then, and what was counted "
            "before is in the RAGBindings' status"
        )
    return said


def workloads(children: Iterable[Manifest], context: Context) -> dict[str, Workload]:
    """The workloads of a deployment's managed components, from its children."""
    objects: dict[str, Manifest] = {}
    pods: dict[str, list[Manifest]] = {}
    for child in children:
        component = labels_of(child).get(LABEL_COMPONENT, "")
        if child["kind"] in ("Deployment", "StatefulSet"):
            objects[component] = child
        elif child["kind"] == "Pod":
            pods.setdefault(component, []).append(child)
    return {
        component: Workload(objects.get(component), pods.get(component, []))
        for component in managed(context.deployment)
    }


def status(context: Context, results: Sequence[Verdict], total: int, ready: int) -> dict[str, Any]:
    """The whole status."""
    deployment = context.deployment
    return {
        "observedGeneration": deployment.metadata.generation,
        "conditions": conditions.merge(
            results, deployment.status.conditions, deployment.metadata.generation
        ),
        "url": api.url(context),
        "tenants": {"total": total, "ready": ready},
        "images": dict(context.images) or None,
    }
