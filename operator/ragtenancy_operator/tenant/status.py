"""What a RAGTenant's status should say. Pure."""

from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import ValidationError

from ragtenancy_api.binding import RAGBindingSpec
from ragtenancy_api.meta import Condition
from ragtenancy_operator import conditions
from ragtenancy_operator.children import api
from ragtenancy_operator.children.base import Context
from ragtenancy_operator.conditions import Verdict, no, unknown, yes
from ragtenancy_operator.store import Manifest
from ragtenancy_operator.tenant.observe import Observed
from ragtenancy_operator.tenant.plan import secret_name


def previous(raw: Manifest) -> list[Condition]:
    """The conditions that are there, for their times.

    The tenant's owner may have written anything here: what is no condition is dropped, and nothing
    is decided by the rest.
    """
    held: list[Condition] = []
    for entry in raw.get("status", {}).get("conditions") or ():
        try:
            held.append(Condition.model_validate(entry))
        except ValidationError:
            continue
    return held


def deployment_ready(context: Context) -> Verdict:
    """Whether the tenant's deployment serves, as its own status says."""
    for condition in context.deployment.status.conditions:
        if condition.type == "Ready" and condition.status == "True":
            return yes("DeploymentReady", "Ready")
    message = next(
        (c.message for c in context.deployment.status.conditions if c.type == "Ready"),
        "nothing is known of it yet",
    )
    return no("DeploymentReady", "DeploymentNotReady", f"RAGDeployment {context.name}: {message}")


def placed(binding: Manifest) -> Verdict:
    """Where the tenant's documents are, once they have a place; and whether they were lost there.

    Requests work again then, so that the tenant stays Ready.
    """
    name = binding["spec"]["placement"]["tenant"]
    lost_at = (binding.get("status") or {}).get("lostAt")
    if lost_at is None:
        return yes("PlacementReady", "Placed", f"tenant {name}")
    return yes(
        "PlacementReady",
        "DocumentsLost",
        f"its documents were found lost in Weaviate at {lost_at}, and its place is made anew: load "
        "them again",
    )


def served(ready_pods: int, lagging: Sequence[str]) -> Verdict:
    """Whether every ready API pod has loaded the binding."""
    if not ready_pods:
        return no("Served", "NoReadyPods", "no API pod is ready")
    if lagging:
        return unknown("Served", "Loading", f"waiting for {', '.join(sorted(lagging)[:3])}")
    return yes("Served", "Served", f"loaded by {ready_pods} API pods")


def status(
    observed: Observed,
    context: Context | None,
    results: Iterable[Verdict],
    bound: RAGBindingSpec | None,
) -> dict[str, Any]:
    """The whole status."""
    metadata = observed.tenant.metadata
    keys = {key.name: key for key in bound.keys} if bound else {}
    issued = [
        {
            "name": key.name,
            "id": keys[key.name].id,
            "secretName": secret_name(observed.tenant, key),
        }
        for key in observed.tenant.spec.api_keys
        if key.name in keys
    ]
    return {
        "observedGeneration": metadata.generation,
        "conditions": conditions.merge(results, previous(observed.raw), metadata.generation),
        "uid": metadata.uid,
        "apiKeys": issued or None,
        "url": api.url(context) if context and bound else None,
    }
