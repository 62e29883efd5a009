"""One pass over a RAGBinding: released when its tenant is gone, and the stores emptied.

With deletionPolicy Retain it stays as ``Released``, with all that the tenant had, until somebody
deletes it or another tenant takes it over (``tenant/restore.py``).
"""

from typing import Any, Final

from ragtenancy_api import wiring
from ragtenancy_api.binding import Placement
from ragtenancy_operator import names, stores
from ragtenancy_operator.children.base import Context
from ragtenancy_operator.deployment.observe import context_of
from ragtenancy_operator.errors import Refused, Retry
from ragtenancy_operator.names import Component
from ragtenancy_operator.services import Services
from ragtenancy_operator.store import Key, Manifest, uid_of
from ragtenancy_operator.tenant.restore import RELEASED, retire

_CLAIM_SECONDS: Final = 5.0
"""How soon a binding is looked at again that a tenant is taking over."""
_CARRIED: Final = ("documents", "usage", "lostAt")
"""What of a binding's status goes to the one that takes it over."""


class BindingReconciler:
    """Releases bindings. Making them so is the tenant's reconcile."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def reconcile(self, key: Key) -> float | None:
        """One pass; returns in how many seconds to look again, or None.

        Raises:
            Retry: A store has not confirmed yet.
        """
        services = self._services
        raw = services.store.get(*key)
        if raw is None:
            return None
        if raw["metadata"].get("deletionTimestamp"):
            await self._release(raw)
        elif (raw.get("status") or {}).get("phase") == RELEASED:
            return await self._hand_over(raw)
        elif await self._orphaned(raw):
            if raw["spec"].get("deletionPolicy") == "Retain":
                await self._retain(raw)
            else:
                await services.kube.delete(raw)
        return None

    async def _orphaned(self, raw: Manifest) -> bool:
        """Whether the tenant is gone; before that is believed, the API server is asked."""
        reference = raw["spec"]["tenantRef"]
        where = ("RAGTenant", reference["namespace"], reference["name"])
        known = self._services.store.get(*where)
        if known is not None and uid_of(known) == reference["uid"]:
            return False
        live = await self._services.kube.find(*where)
        return live is None or uid_of(live) != reference["uid"]

    async def _retain(self, raw: Manifest) -> None:
        """Let nobody in any more, and keep what there is."""
        raw = await retire(self._services, raw)
        await self._say(raw, {"phase": RELEASED, "message": None})
        text = (
            f"its tenant is gone and what it had is kept: kubectl delete ragbinding "
            f"{raw['metadata']['name']} empties the stores"
        )
        await self._services.events.post(raw, "Normal", RELEASED, text)

    async def _say(self, raw: Manifest, status: dict[str, Any]) -> None:
        """Write some of the status; what the keeper counted stays."""
        held = raw.get("status") or {}
        if all(held.get(name) == value for name, value in status.items()):
            return
        patch = {"status": status}
        self._services.store.put(
            await self._services.kube.merge("RAGBinding", *_where(raw), patch, "status")
        )

    # -- what another tenant takes over

    async def _hand_over(self, raw: Manifest) -> float | None:
        """Go, once the tenant that claims what is here has a binding with it."""
        services, claimant = self._services, raw["spec"].get("claimedBy")
        if claimant is None:
            return None
        namespace = raw["metadata"]["namespace"]
        heir = services.store.get("RAGBinding", namespace, claimant)
        if heir is not None and heir["spec"]["placement"] == raw["spec"]["placement"]:
            left, has = raw.get("status") or {}, heir.get("status") or {}
            if not any(name in has for name in _CARRIED):
                await self._say(heir, {name: left[name] for name in _CARRIED if name in left})
            await services.kube.delete(raw)
            return None
        if heir is None and self._lives(claimant):
            return _CLAIM_SECONDS
        # the claimant went before it had anything: another may come
        metadata = raw["metadata"]
        patch = {
            "metadata": {"resourceVersion": metadata["resourceVersion"], "uid": uid_of(raw)},
            "spec": {"claimedBy": None},
        }
        services.store.put(await services.kube.merge("RAGBinding", *_where(raw), patch))
        return None

    def _lives(self, uid: str) -> bool:
        """Whether there is a RAGTenant of this uid. Rarely asked: it looks at all of them."""
        return any(uid_of(tenant) == uid for tenant in self._services.store.of_kind("RAGTenant"))

    # -- the end

    async def _release(self, raw: Manifest) -> None:
        services = self._services
        if names.FINALIZER not in (raw["metadata"].get("finalizers") or ()):
            return
        context = self._deployment(raw)
        if context is not None:
            try:
                await self._empty(raw, context)
            except (Refused, Retry) as error:
                await self._say(raw, {"phase": "Releasing", "message": f"waiting: {error}"[:4096]})
                raise Retry(str(error)) from error
        latest = services.store.get("RAGBinding", *_where(raw)) or raw
        services.store.put(
            await services.kube.set_finalizer(latest, names.FINALIZER, present=False)
        )
        services.events.forget(uid_of(raw))
        deployment = raw["spec"]["deploymentRef"]["name"]
        services.queue.wake(
            Key("RAGDeployment", raw["metadata"]["namespace"], deployment),
            after=0.2,
            cause="a binding was released",
        )

    def _deployment(self, raw: Manifest) -> Context | None:
        """The deployment with the stores; None when it is gone and they with it."""
        services, namespace = self._services, raw["metadata"]["namespace"]
        deployment = services.store.get(
            "RAGDeployment", namespace, raw["spec"]["deploymentRef"]["name"]
        )
        home = services.store.get("Namespace", "", namespace)
        leaving = home is not None and home["metadata"].get("deletionTimestamp")
        return context_of(services, deployment) if deployment and not leaving else None

    async def _empty(self, raw: Manifest, context: Context) -> None:
        # its own name, not its tenantRef: the platform may have written another tenant into that
        services, uid = self._services, raw["metadata"]["name"]
        place = Placement.model_validate(raw["spec"]["placement"])
        going = await self._going(raw, context)
        if place.owner is not None and Component.STATE not in going:
            # no shard goes with this tenant that would refuse a late write
            state = await services.connections.redis_url(context, wiring.CREDENTIAL_STATE_REDIS)
            await stores.stop_writers(state, uid)
        for component, entry in (
            (Component.STATE, wiring.CREDENTIAL_STATE_REDIS),
            (Component.CACHE, wiring.CREDENTIAL_CACHE_REDIS),
        ):
            if component not in going:
                url = await services.connections.redis_url(context, entry)
                await stores.purge(url, uid, which=component)
        if Component.WEAVIATE in going or await self._taken_over(raw):
            return
        connection = await services.connections.vector_store(context)
        await connection.placements.empty(place)

    async def _going(self, raw: Manifest, context: Context) -> set[str]:
        """Stores that need not be emptied, because they go with their deployment.

        What a volume that is retained holds stays, unless it is of a tenant that was deleted
        before and wanted it gone.
        """
        if context.deployment.metadata.deletion_timestamp is None:
            return set()
        spec = context.deployment.spec
        keeps = raw["spec"].get("deletionPolicy") == "Retain" or not await self._orphaned(raw)
        weaviate, state = spec.vector_store.weaviate.managed, spec.state.redis.managed
        going = {
            Component.WEAVIATE: weaviate and (keeps or not weaviate.storage.retain),
            Component.STATE: state and (keeps or not state.storage.retain),
            Component.CACHE: spec.cache.redis.managed,
        }
        return {component for component, goes in going.items() if goes}

    async def _taken_over(self, raw: Manifest) -> bool:
        """Whether the documents are another tenant's by now.

        Raises:
            Retry: They will be.
        """
        services, claimant = self._services, raw["spec"].get("claimedBy")
        others = services.store.bindings_at(raw["spec"]["placement"])
        if any(other["metadata"]["name"] != raw["metadata"]["name"] for other in others):
            return True
        if claimant is None:
            return False
        heir = await services.kube.find("RAGBinding", raw["metadata"]["namespace"], claimant)
        if heir is not None:
            return bool(heir["spec"]["placement"] == raw["spec"]["placement"])
        if self._lives(claimant):
            raise Retry("the tenant that takes it over is not bound yet")
        return False


def _where(raw: Manifest) -> tuple[str, str]:
    return raw["metadata"]["namespace"], raw["metadata"]["name"]
