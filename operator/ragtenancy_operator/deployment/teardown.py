"""The end of a RAGDeployment, in order: no traffic, then nobody's data, then the servers.

Each pass does the first thing that is left to do and says so; what it needs to know is in the
cluster, so a process that ends anywhere leaves nothing undone.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

from ragtenancy_api import wiring
from ragtenancy_api.meta import parse_timestamp
from ragtenancy_operator import names, stores
from ragtenancy_operator.deployment.observe import context_of
from ragtenancy_operator.errors import Refused, Retry
from ragtenancy_operator.names import LABEL_COMPONENT, Component
from ragtenancy_operator.services import Services
from ragtenancy_operator.store import Manifest, key_of, labels_of, uid_of

_WORKLOADS: Final = ("Deployment", "StatefulSet", "Job", "HorizontalPodAutoscaler")
_STAGES: Final = (
    (Component.EMBEDDING, Component.GENERATION),
    (Component.STATE, Component.CACHE),
    (Component.WEAVIATE,),
)
"""Components in the order of their end, after the API and the tenants."""


def workloads(children: Iterable[Manifest], *components: str) -> list[Manifest]:
    """What runs components' pods."""
    return [
        child
        for child in children
        if child["kind"] in _WORKLOADS and labels_of(child).get(LABEL_COMPONENT) in components
    ]


def serving(children: Iterable[Manifest], now: datetime) -> list[str]:
    """Names of API pods that may still answer somebody.

    One that has outlived its grace period is on a node that does not answer; it holds up nothing.
    """
    return [
        child["metadata"]["name"]
        for child in children
        if child["kind"] == "Pod"
        and labels_of(child).get(LABEL_COMPONENT) == Component.API
        and (child.get("status") or {}).get("phase") not in ("Succeeded", "Failed")
        and not _overdue(child["metadata"].get("deletionTimestamp"), now)
    ]


def _overdue(deletion: str | None, now: datetime) -> bool:
    # the API server sets it to the end of the grace period
    return deletion is not None and parse_timestamp(deletion) < now


class Teardown:
    """Takes a RAGDeployment down."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def step(self, raw: Manifest, *, leaving: bool) -> str | None:
        """Do what is next; says what is waited for, None when nothing is left.

        Args:
            raw: The RAGDeployment.
            leaving: Whether its namespace is deleted: everything in it goes by itself.

        Raises:
            Retry: A store has not confirmed, or the API server did not answer.
        """
        if not leaving:
            waits = await self._stop(raw, Component.API)
            if waits:
                return waits
            pods = serving(self._children(raw), datetime.now(UTC))
            if pods:
                return f"API pod {pods[0]} finishes the answers that it has begun"
        waits = await self._release(raw, leaving=leaving)
        if waits:
            return waits
        await self._empty_external(raw, leaving=leaving)
        if not leaving:
            for components in _STAGES:
                waits = await self._stop(raw, *components)
                if waits:
                    return waits
        return None

    def _children(self, raw: Manifest) -> list[Manifest]:
        key = key_of(raw)
        return list(self._services.store.of_deployment(key.namespace, key.name))

    async def _stop(self, raw: Manifest, *components: str) -> str | None:
        """Delete what runs the components' pods; says what is not gone yet."""
        running = workloads(self._children(raw), *components)
        for child in running:
            owners = child["metadata"].get("ownerReferences") or ()
            if not child["metadata"].get("deletionTimestamp") and any(
                owner.get("uid") == uid_of(raw) for owner in owners
            ):
                await self._services.applier.delete(child)
        return f"{running[0]['kind']} {running[0]['metadata']['name']} ends" if running else None

    async def _release(self, raw: Manifest, *, leaving: bool) -> str | None:
        """See to it that no tenant has anything here any more."""
        services, key = self._services, key_of(raw)
        bindings = list(services.store.of_deployment(key.namespace, key.name, "RAGBinding"))
        if not bindings:
            return None
        cascade = raw["spec"].get("deletionPolicy") == "Cascade"
        held = [each for each in bindings if not each["metadata"].get("deletionTimestamp")]
        for binding in bindings:
            if cascade and not leaving and binding in held:
                await services.kube.delete(binding)
            services.queue.wake(key_of(binding), cause="its deployment is deleted")
        if held and not cascade and not leaving:
            return (
                f"{len(held)} tenants have documents here (kubectl get ragbindings -n "
                f"{key.namespace}); delete them, or set spec.deletionPolicy to Cascade"
            )
        return f"the stores are emptied of {len(bindings)} tenants"

    async def _empty_external(self, raw: Manifest, *, leaving: bool) -> None:
        """Delete what is ours in stores that stay."""
        services = self._services
        try:
            context = context_of(services, raw)
            spec = context.deployment.spec
            if spec.vector_store.weaviate.external:
                connection = await services.connections.vector_store(context)
                for collection in names.collections(uid_of(raw)):
                    await connection.client.delete_collection(collection)
            if spec.state.redis.external:
                url = await services.connections.redis_url(context, wiring.CREDENTIAL_STATE_REDIS)
                async with stores.state(url) as state:
                    await state.forget_here(uid_of(raw))
        except (Refused, Retry) as error:
            text = f"what it has in its external stores cannot be deleted: {error}"
            if not leaving and isinstance(error, Retry):
                await services.events.post(raw, "Warning", "DeletionWaits", text)
                raise Retry(text) from error
            # What cannot be reached any more must not keep the object, or its namespace, for ever.
            if not leaving:
                await services.events.post(raw, "Warning", "CollectionsLeft", text)


def deleting(raw: Manifest, text: str) -> dict[str, Any]:
    """The status of a RAGDeployment that is on its way out."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    held = raw.get("status") or {}
    conditions = [c for c in held.get("conditions") or () if c["type"] != "Ready"]
    before: dict[str, Any] = next(
        (c for c in held.get("conditions") or () if c["type"] == "Ready"), {}
    )
    ready = {
        "type": "Ready",
        "status": "False",
        "reason": "Deleting",
        "message": text,
        "observedGeneration": raw["metadata"].get("generation", 0),
        "lastTransitionTime": before["lastTransitionTime"]
        if before.get("status") == "False"
        else now,
    }
    return held | {"conditions": [*conditions, ready]}
