"""Volumes: what a claim was made with stays, and its size grows claim by claim.

The claim templates of a StatefulSet are immutable, so they stay as they were first made and the
claims themselves are patched. What is decided here is pure.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from ragtenancy_operator.children.base import quantity
from ragtenancy_operator.deployment.observe import Observed
from ragtenancy_operator.errors import KubeError, Refused
from ragtenancy_operator.names import Component
from ragtenancy_operator.services import Services
from ragtenancy_operator.store import Manifest, Store, holds, key_of

PATHS: Final = {
    Component.WEAVIATE: "spec.vectorStore.weaviate.managed.storage",
    Component.STATE: "spec.state.redis.managed.storage",
    Component.EMBEDDING: "spec.embedding.vllm.modelCache.persistentVolumeClaim",
    Component.GENERATION: "spec.generation.vllm.modelCache.persistentVolumeClaim",
}
"""Field of each component's volumes."""


@dataclass(frozen=True)
class Claim:
    """A claim that there should be, and what for."""

    component: str
    name: str
    size: str
    storage_class: str | None

    @property
    def path(self) -> str:
        """The field that says so."""
        return PATHS[self.component]


def claims(wanted: Mapping[str, Sequence[Manifest]]) -> Iterator[Claim]:
    """The claims of a deployment, from the manifests of its components."""
    for component, manifests in wanted.items():
        for manifest in manifests:
            name, spec = manifest["metadata"]["name"], manifest.get("spec") or {}
            if manifest["kind"] == "PersistentVolumeClaim":
                yield Claim(component, name, _size(spec), spec.get("storageClassName"))
            for template in spec.get("volumeClaimTemplates") or ():
                volume, inner = template["metadata"]["name"], template["spec"]
                for index in range(spec["replicas"]):
                    each = f"{volume}-{name}-{index}"
                    yield Claim(component, each, _size(inner), inner.get("storageClassName"))


def _size(spec: Mapping[str, Any]) -> str:
    return str(spec["resources"]["requests"]["storage"])


def _sized(spec: Mapping[str, Any], made: Mapping[str, Any]) -> dict[str, Any]:
    return {**spec, "resources": {"requests": {"storage": _size(made)}}}


def as_made(manifest: Manifest, observed: Manifest | None) -> Manifest:
    """A manifest with its claims as large as they were made: they do not grow by being applied."""
    if observed is None:
        return manifest
    spec = manifest.get("spec") or {}
    if manifest["kind"] == "PersistentVolumeClaim":
        return {**manifest, "spec": _sized(spec, observed["spec"])}
    if manifest["kind"] != "StatefulSet":
        return manifest
    held = observed["spec"].get("volumeClaimTemplates") or ()
    made = {template["metadata"]["name"]: template for template in held}
    templates = [
        {
            **template,
            "metadata": {
                **template["metadata"],
                "labels": made[name]["metadata"].get("labels") or {},
            },
            "spec": _sized(template["spec"], made[name]["spec"]),
        }
        if (name := template["metadata"]["name"]) in made
        else template
        for template in spec["volumeClaimTemplates"]
    ]
    return {**manifest, "spec": {**spec, "volumeClaimTemplates": templates}}


def _capacity(held: Manifest) -> Decimal:
    capacity = (held.get("status") or {}).get("capacity") or {}
    return quantity(capacity.get("storage", "0"))


def class_missing(claim: Claim, held: Manifest | None, store: Store) -> Refused | None:
    """Whether a claim that has no volume yet names a StorageClass that there is not."""
    if held is not None and (held.get("status") or {}).get("phase") == "Bound":
        return None
    name = claim.storage_class
    if not name or store.get("StorageClass", "", name) is not None:
        return None
    return Refused(
        "StorageClassNotFound",
        f"{claim.path}.storageClassName: there is no StorageClass {name}. The field is immutable: "
        "make the class, or the RAGDeployment anew",
    )


def not_expandable(claim: Claim, held: Manifest, why: str) -> Refused:
    """What is said of a claim that cannot grow."""
    return Refused(
        "VolumeNotExpandable",
        f"{claim.path}.size: claim {claim.name} stays at {_size(held['spec'])}: {why}. Let the "
        "class allow volume expansion, or load the documents into a new RAGDeployment",
    )


def progress(claim: Claim, held: Manifest) -> str | None:
    """How far a claim is that was told to grow; None when it is as large as it should be."""
    if _capacity(held) >= quantity(claim.size):
        return None
    text = f"claim {claim.name} grows to {claim.size}"
    if holds(held, "FileSystemResizePending"):
        text += ", and waits for its pod to be started anew"
    return text


async def grow(services: Services, observed: Observed, wanted: Sequence[Claim]) -> None:
    """Have every claim as large as it should be; what is in the way goes into the conditions."""
    store, namespace = services.store, observed.context.namespace
    for claim in wanted:
        held = store.get("PersistentVolumeClaim", namespace, claim.name)
        missing = class_missing(claim, held, store)
        if missing is not None:
            observed.failures.setdefault(claim.component, missing)
        if held is None or (held.get("status") or {}).get("phase") != "Bound":
            continue  # only the claim of a volume that is there can be changed
        if quantity(_size(held["spec"])) < quantity(claim.size):
            refusal = await _patch(services, claim, held)
            if refusal is not None:
                observed.notes.setdefault(claim.component, refusal)
                continue
        said = progress(claim, store.get(*key_of(held)) or held)
        if said is not None:
            observed.resizing.setdefault(claim.component, said)


async def _patch(services: Services, claim: Claim, held: Manifest) -> Refused | None:
    """Ask for a larger volume; what forbids it."""
    name = held["spec"].get("storageClassName")
    kind = services.store.get("StorageClass", "", name) if name else None
    if kind is not None and not kind.get("allowVolumeExpansion"):
        return not_expandable(claim, held, f"StorageClass {name} does not let volumes grow")
    patch = {"spec": {"resources": {"requests": {"storage": claim.size}}}}
    try:
        services.store.put(await services.kube.merge(*key_of(held), patch))
    except KubeError as error:
        if error.status in (403, 422):
            return not_expandable(claim, held, error.message)
        raise
    return None
