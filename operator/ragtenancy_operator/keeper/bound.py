"""What the keeper knows of one tenant, from its RAGBinding. Pure.

Read from the plain object: thousands of them are looked at every few seconds, and each was checked
by the API server when it was written.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from ragtenancy_api.meta import parse_duration
from ragtenancy_api.settings import Idle
from ragtenancy_operator.store import Key, Manifest
from ragtenancy_operator.weaviate import Share

IDLE_SECONDS: Final = parse_duration(Idle().deactivate_after).total_seconds()


@dataclass(frozen=True, slots=True)
class Bound:
    """A tenant that is served.

    Attributes:
        uid: Its identity in every store.
        binding: Key of its RAGBinding.
        tenant: Key of its RAGTenant.
        collections: Weaviate collections of its documents and of its chunks.
        share: What it has in each of them.
        idle_seconds: Unused for so long, it is put to sleep.
        documents: As last counted.
        usage: The checkpoint: what was used on the last day that anything was.
        lost_at: When its documents were found lost.
    """

    uid: str
    binding: Key
    tenant: Key
    collections: tuple[str, str]
    share: Share
    idle_seconds: float
    documents: int | None
    usage: dict[str, Any] | None
    lost_at: str | None


def bound(binding: Manifest) -> Bound | None:
    """A binding's tenant; None when it is not served any more."""
    metadata, spec, status = binding["metadata"], binding["spec"], binding.get("status") or {}
    if metadata.get("deletionTimestamp") or status.get("phase"):
        return None
    reference, placement = spec["tenantRef"], spec["placement"]
    idle = spec.get("settings", {}).get("idle", {}).get("deactivateAfter")
    return Bound(
        uid=reference["uid"],
        binding=Key("RAGBinding", metadata["namespace"], metadata["name"]),
        tenant=Key("RAGTenant", reference["namespace"], reference["name"]),
        collections=(placement["documents"], placement["chunks"]),
        share=Share(placement["tenant"], placement.get("owner")),
        idle_seconds=parse_duration(idle).total_seconds() if idle else IDLE_SECONDS,
        documents=status.get("documents"),
        usage=status.get("usage"),
        lost_at=status.get("lostAt"),
    )


def all_bound(bindings: Iterable[Manifest]) -> list[Bound]:
    """Those of the bindings whose tenants are served."""
    return [each for binding in bindings if (each := bound(binding)) is not None]
