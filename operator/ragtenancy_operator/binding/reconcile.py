"""One pass over a RAGBinding: released when its tenant is gone, and the stores emptied."""

from ragtenancy_api import wiring
from ragtenancy_operator import names, stores
from ragtenancy_operator.children.base import Context
from ragtenancy_operator.deployment.observe import context_of
from ragtenancy_operator.errors import Refused, Retry
from ragtenancy_operator.services import Services
from ragtenancy_operator.store import Key, Manifest, uid_of


class BindingReconciler:
    """Releases bindings. Making them so is the tenant's reconcile."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def reconcile(self, key: Key) -> float | None:
        """One pass; returns None.

        Raises:
            Retry: A store has not confirmed yet.
        """
        services = self._services
        raw = services.store.get(*key)
        if raw is None:
            return None
        if raw["metadata"].get("deletionTimestamp"):
            await self._release(raw)
        elif await self._orphaned(raw):
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

    async def _release(self, raw: Manifest) -> None:
        services = self._services
        if names.FINALIZER not in (raw["metadata"].get("finalizers") or ()):
            return
        context = self._deployment(raw)
        if context is not None:
            try:
                await self._empty(raw, context)
            except (Refused, Retry) as error:
                waiting = {"phase": "Releasing", "message": f"waiting: {error}"}
                patched = await services.kube.set_status(raw, waiting)
                if patched:
                    services.store.put(patched)
                raise Retry(str(error)) from error
        services.store.put(await services.kube.set_finalizer(raw, names.FINALIZER, present=False))
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
        services, uid = self._services, raw["spec"]["tenantRef"]["uid"]
        for which, entry in (
            ("state", wiring.CREDENTIAL_STATE_REDIS),
            ("cache", wiring.CREDENTIAL_CACHE_REDIS),
        ):
            await stores.purge(
                await services.connections.redis_url(context, entry), uid, which=which
            )
        connection = await services.connections.vector_store(context)
        await connection.tenants.remove(raw["spec"]["placement"]["tenant"])
