"""What a RAGTenant's status should say. Pure."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from pydantic import ValidationError

from ragtenancy_api.binding import Placement, RAGBinding
from ragtenancy_api.meta import Condition
from ragtenancy_operator import conditions
from ragtenancy_operator.children import api
from ragtenancy_operator.children.base import Context
from ragtenancy_operator.conditions import Verdict, no, unknown, yes
from ragtenancy_operator.store import Manifest
from ragtenancy_operator.tenant import keys
from ragtenancy_operator.tenant.credentials import Credentials
from ragtenancy_operator.tenant.observe import Observed

_MOST_KEYS: Final = 64
"""Entries of status.apiKeys that the schema allows."""


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


def _where(placement: Placement) -> str:
    match placement.isolation:
        case "Collection":
            return f"collections {placement.documents} and {placement.chunks}"
        case "Filter":
            return f"tenant {placement.tenant}, behind a filter on {placement.owner}"
        case _:
            return f"tenant {placement.tenant}"


def placed(binding: Manifest) -> Verdict:
    """Where the tenant's documents are, once they have a place; and whether they were lost there.

    Requests work again then, so that the tenant stays Ready.
    """
    where = _where(Placement.model_validate(binding["spec"]["placement"]))
    lost_at = (binding.get("status") or {}).get("lostAt")
    if lost_at is None:
        return yes("PlacementReady", "Placed", where)
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


def _issued(observed: Observed, credentials: Credentials) -> list[dict[str, Any]]:
    """The keys that work, and those that have ended by their own expiresAt."""
    secret = {
        key.name: keys.secret_name(observed.tenant, key) for key in observed.tenant.spec.api_keys
    }
    entries = [
        {
            "name": key.name,
            "id": key.id,
            "secretName": secret[key.name],
            "createdAt": key.issued_at,
            "expiresAt": key.expires_at,
        }
        for key in (*credentials.working, *credentials.expired)
    ]
    return [
        {name: value for name, value in entry.items() if value is not None} for entry in entries
    ]


def status(
    observed: Observed,
    context: Context | None,
    results: Iterable[Verdict],
    credentials: Credentials | None,
    bound: RAGBinding | None,
) -> dict[str, Any]:
    """The whole status.

    Args:
        observed: The tenant.
        context: Its deployment.
        results: The conditions.
        credentials: Its keys, if the pass came to them.
        bound: Its binding, if it has one.
    """
    metadata = observed.tenant.metadata
    issued = _issued(observed, credentials) if credentials else []
    usage = bound.status.usage if bound else None
    return {
        "observedGeneration": metadata.generation,
        "conditions": conditions.merge(results, previous(observed.raw), metadata.generation),
        "uid": metadata.uid,
        "apiKeys": issued[:_MOST_KEYS] or None,
        "url": api.url(context) if context and credentials and bound else None,
        "documents": bound.status.documents if bound else None,
        "usage": usage.wire() if usage else None,
    }
