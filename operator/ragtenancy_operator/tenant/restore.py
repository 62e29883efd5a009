"""Leaving behind what a tenant with deletionPolicy Retain had, and taking it over.

The new tenant's uid goes into the old binding's ``claimedBy``, with its resourceVersion as the
precondition: so one tenant at most takes it over. Then the new binding is made, with the placement
of the old one, which its own reconcile removes without emptying anything.
"""

from typing import Final

from ragtenancy_api.binding import RAGBinding
from ragtenancy_api.tenant import RAGTenant
from ragtenancy_operator.conditions import Verdict, no
from ragtenancy_operator.services import Services
from ragtenancy_operator.store import Manifest, uid_of
from ragtenancy_operator.tenant.observe import Observed

RELEASED: Final = "Released"
"""Phase of a binding that has lost its tenant and keeps what that had."""


def refusal(  # noqa: PLR0911 - one return for each reason
    tenant: RAGTenant, origin: RAGBinding | None
) -> Verdict | None:
    """Why a tenant may not take over a binding; None when it may.

    Who asks for what is not theirs learns nothing: a binding that is not there, another tenant's
    and one that still is in use are refused with the same words.

    Args:
        tenant: The tenant, which has no binding yet.
        origin: The binding that it names, from its deployment's namespace.
    """
    wanted = tenant.spec.restore_from
    if wanted is None:
        return None
    path, metadata = "spec.restoreFrom.binding", tenant.metadata
    if origin is None or not _theirs(tenant, origin):
        return no(
            "Accepted",
            "RestoreRefused",
            f"{path}: {wanted.binding} is no Released RAGBinding of a tenant {metadata.namespace}/"
            f"{metadata.name}. Ask the platform to write this tenant into its tenantRef, or delete "
            "this RAGTenant and make it anew without restoreFrom",
        )
    reference = tenant.spec.deployment_ref
    if origin.spec.deployment_ref.name != reference.name:
        return no(
            "Accepted",
            "RestoreElsewhere",
            f"{path}: its documents are in RAGDeployment {reference.namespace}/"
            f"{origin.spec.deployment_ref.name}, and documents do not move",
        )
    claimant = origin.spec.claimed_by
    if claimant not in (None, metadata.uid):
        return no("Accepted", "RestoreClaimed", f"{path}: another RAGTenant is taking it over")
    if origin.metadata.deletion_timestamp and claimant is None:
        return no("Accepted", "RestoreEmptied", f"{path}: it is being deleted, documents and all")
    if origin.spec.placement.isolation != tenant.spec.isolation:
        return no(
            "Accepted",
            "RestoreIsolation",
            f"spec.isolation: {tenant.spec.isolation}, but what {path} names has "
            f"{origin.spec.placement.isolation}, and documents do not move: make this RAGTenant "
            f"anew with isolation {origin.spec.placement.isolation}",
        )
    return None


def _theirs(tenant: RAGTenant, origin: RAGBinding) -> bool:
    owner, metadata = origin.spec.tenant_ref, tenant.metadata
    named = (owner.namespace, owner.name) == (metadata.namespace, metadata.name)
    return named and origin.status.phase == RELEASED


async def claim(services: Services, observed: Observed) -> None:
    """Have the old binding to take over, before the new one is made.

    Raises:
        Retry: The old binding changed meanwhile: another tenant may have it.
    """
    origin, uid = observed.origin, observed.tenant.metadata.uid
    if origin is None or origin.spec.claimed_by == uid:
        return
    metadata = origin.metadata
    patch = {
        "metadata": {"resourceVersion": metadata.resource_version, "uid": metadata.uid},
        "spec": {"claimedBy": uid},
    }
    services.store.put(
        await services.kube.merge("RAGBinding", metadata.namespace, metadata.name, patch)
    )


async def retire(services: Services, raw: Manifest) -> Manifest:
    """Have a binding that lets nobody in and is kept when its tenant is gone."""
    spec, metadata = raw["spec"], raw["metadata"]
    if not spec.get("keys") and spec.get("suspended") and spec.get("deletionPolicy") == "Retain":
        return raw
    patch = {
        "metadata": {"uid": uid_of(raw)},
        "spec": {"keys": [], "suspended": True, "deletionPolicy": "Retain"},
    }
    patched = await services.kube.merge(
        "RAGBinding", metadata["namespace"], metadata["name"], patch
    )
    services.store.put(patched)
    return patched
