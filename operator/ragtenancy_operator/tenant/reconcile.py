"""One pass over a RAGTenant: observe, plan, apply, status. Safe to stop at any line.

The order is the promise: the finalizer before anything outside the object, a key's Secret before
its hash, the hash before Ready. So no key is issued twice, and none works that nobody was given.
What takes something away (a revoked key, a lower limit, a suspension) waits for no store.
"""

from dataclasses import dataclass, field
from typing import Final

from ragtenancy_api.binding import BoundKey, RAGBinding
from ragtenancy_operator import damage, names
from ragtenancy_operator.children import api
from ragtenancy_operator.children.base import Context
from ragtenancy_operator.conditions import Verdict, merge, no, refused, sum_up, unknown, yes
from ragtenancy_operator.errors import KubeError, Refused, Retry
from ragtenancy_operator.services import Services
from ragtenancy_operator.store import Key, Manifest, annotations_of, key_of, uid_of
from ragtenancy_operator.tenant import plan, restore, status
from ragtenancy_operator.tenant.credentials import Credentials, KeyMaker
from ragtenancy_operator.tenant.observe import Observed, observe

_LOADING_SECONDS: Final = 1.0
"""How long API pods may take to load a binding before the status speaks of it."""
_RECHECK_SECONDS: Final = 5.0
"""How soon an object in our way is looked for again: no watch tells that it is gone."""


@dataclass
class _Pass:
    """What one pass has found out so far."""

    accepted: Verdict
    placement: Verdict = field(
        default_factory=lambda: unknown("PlacementReady", "Waiting", "not tried yet")
    )
    credentials: Credentials | None = None
    served: Verdict = field(
        default_factory=lambda: unknown("Served", "Waiting", "the tenant is not bound yet")
    )
    stalled: Refused | None = None
    loading: bool = False

    def verdicts(self, url: str, *, suspended: bool) -> list[Verdict]:
        waiting = unknown("CredentialsReady", "Waiting", "not tried yet")
        credentials = self.credentials.verdict() if self.credentials else waiting
        parts = [self.accepted, self.placement, credentials, self.served]
        ready = sum_up(parts, f"serves at {url}")
        if suspended and self.accepted.true:
            text = "spec.suspended is true: every request is refused, and all it has is kept"
            ready = no("Ready", "Suspended", text)
        results = [*parts, ready]
        if self.stalled:
            results.append(yes("Stalled", self.stalled.reason, self.stalled.message))
        return results


class TenantReconciler:
    """Makes RAGTenants so."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._keys = KeyMaker(services)

    async def reconcile(self, key: Key) -> float | None:
        """One pass; returns in how many seconds to look again, or None.

        Raises:
            Retry: Something that is likely to pass.
        """
        services = self._services
        raw = services.store.get(*key)
        if raw is None or annotations_of(raw).get(names.ANNOTATION_PAUSED) == "true":
            return None
        if raw["metadata"].get("deletionTimestamp"):
            return await self._release(raw)
        try:
            observed = observe(services, raw)
        except Refused as refusal:
            await self._refuse(raw, refusal)
            return None
        found = _Pass(plan.accepted(observed))
        failure = await self._make(observed, found)
        if found.loading:
            # the pods have it in a moment, and wake this key: one status is written, not two
            return _LOADING_SECONDS
        await self._report(observed, found)
        if failure is not None:
            raise failure
        again = [_RECHECK_SECONDS] if found.stalled else []
        if found.credentials is not None and found.credentials.again is not None:
            again.append(found.credentials.again)
        return min(again, default=None)

    async def _make(self, observed: Observed, found: _Pass) -> Retry | None:
        """Make what the tenant needs, in order, as far as it goes."""
        context, bound = observed.deployment, observed.binding is not None
        # one that passes a limit which came later keeps what it has, within the limits
        within = bound and found.accepted.reason == plan.LIMIT_EXCEEDED
        if context is None or not (found.accepted.true or within):
            if bound and context is not None and not context.deployment.metadata.deletion_timestamp:
                # no longer allowed: nothing is lost, but nothing is served either
                await self._bind(observed, context, [], shut=True)
            return None
        ready = status.deployment_ready(context)
        if not ready.true and not bound:
            found.placement = no("PlacementReady", ready.reason, ready.message)
            return None
        try:
            await self._finalizer(observed)
            with self._keys.reserved(observed.tenant.metadata.uid):
                credentials = found.credentials = await self._keys.gather(observed, context)
                binding = await self._place(observed, context, credentials.working)
            await self._keys.remove_stray(observed, credentials)
            found.placement = status.placed(binding)
            await self._serve(observed, context, binding, found)
            if found.served.true and not ready.true:
                found.served = no("Served", ready.reason, ready.message)
            if credentials.refusal is not None:
                raise credentials.refusal
        except KubeError as error:
            if error.terminating:
                found.placement = no(
                    "PlacementReady", "NamespaceTerminating", "the namespace is being deleted"
                )
                return None
            return self._trouble(found, error)
        except Refused as refusal:
            found.stalled = refusal
            if refusal.reason == "Conflict":
                found.accepted = no("Accepted", refusal.reason, refusal.message)
            else:
                found.placement = no("PlacementReady", refusal.reason, refusal.message)
        except Retry as error:
            return self._trouble(found, error)
        return None

    async def _place(
        self, observed: Observed, context: Context, working: list[BoundKey]
    ) -> Manifest:
        """Have the tenant's place and its binding; of one that is bound, the binding goes first."""
        services, placement = self._services, plan.placement(observed, context)
        if observed.binding is None:
            await restore.claim(services, observed)
        else:
            await self._bind(observed, context, working)
        connection = await services.connections.vector_store(context)
        if observed.binding is not None:
            await damage.note(services, context, connection.placements, observed.binding)
        collection = context.deployment.spec.vector_store.collection
        await connection.placements.ensure(placement, collection)
        # of one that is bound nothing has changed since but what was noted of it
        held = observed.binding and services.store.get(
            "RAGBinding", context.namespace, observed.binding.metadata.name
        )
        binding = held or await self._bind(observed, context, working)
        if observed.origin is not None:
            origin = observed.origin.metadata
            key = Key("RAGBinding", origin.namespace, origin.name)
            services.queue.wake(key, cause="what it kept was taken over")
        return binding

    def _trouble(self, found: _Pass, error: Retry) -> Retry:
        """Say in a condition what is tried again."""
        text = str(error)
        if not found.placement.true:
            found.placement = unknown("PlacementReady", "Retrying", text)
        return error

    async def _finalizer(self, observed: Observed) -> None:
        held = observed.raw["metadata"].get("finalizers") or ()
        if names.FINALIZER not in held:
            current = self._services.store.get(*key_of(observed.raw)) or observed.raw
            patched = await self._services.kube.set_finalizer(
                current, names.FINALIZER, present=True
            )
            self._services.store.put(patched)

    async def _bind(
        self, observed: Observed, context: Context, working: list[BoundKey], *, shut: bool = False
    ) -> Manifest:
        manifest = plan.binding(observed, context, working, shut=shut)
        return await self._services.applier.ensure(manifest)

    async def _serve(
        self, observed: Observed, context: Context, binding: Manifest, found: _Pass
    ) -> None:
        served, where = self._services.served, (context.namespace, context.name)
        version = int(binding["metadata"]["resourceVersion"])
        lagging = await served.lagging(*where, version)
        if lagging:
            waited = served.wake_when(*where, version, key_of(observed.raw))
            found.loading = waited < _LOADING_SECONDS
        found.served = status.served(len(served.pods(*where)), lagging)

    async def _report(self, observed: Observed, found: _Pass) -> None:
        services, context = self._services, observed.deployment
        url = "" if context is None else api.url(context)
        results = found.verdicts(url, suspended=observed.tenant.spec.suspended)
        before = {c.type: c.status for c in status.previous(observed.raw)}
        current = services.store.get(*key_of(observed.raw)) or observed.raw
        binding = context and services.store.get("RAGBinding", context.namespace, uid_of(current))
        bound = RAGBinding.model_validate(binding) if binding else None
        body = status.status(observed, context, results, found.credentials, bound)
        patched = await services.kube.set_status(current, body)
        if patched is None:
            return
        services.store.put(patched)
        ready = next(result for result in results if result.type == "Ready")
        if ready.status != before.get("Ready"):
            if context is not None:
                # its status counts the ready tenants; many changes make one pass
                services.queue.wake(
                    Key("RAGDeployment", context.namespace, context.name),
                    after=1.0,
                    cause="a tenant's readiness changed",
                )
            if ready.true:
                await services.events.post(observed.raw, "Normal", "Ready", ready.message)
        if not found.accepted.true:
            await services.events.post(
                observed.raw, "Warning", found.accepted.reason, found.accepted.message
            )

    async def _refuse(self, raw: Manifest, refusal: Refused) -> None:
        generation = raw["metadata"].get("generation", 0)
        body = {
            "observedGeneration": generation,
            "conditions": merge(refused(refusal), status.previous(raw), generation),
        }
        patched = await self._services.kube.set_status(raw, body)
        if patched:
            self._services.store.put(patched)

    async def _release(self, raw: Manifest) -> float | None:
        """Hand the tenant's binding over to its own teardown, and let the tenant go.

        The binding stays until every store confirmed that it is empty of the tenant; the tenant's
        namespace does not wait for that.
        """
        services = self._services
        if names.FINALIZER not in (raw["metadata"].get("finalizers") or ()):
            return None
        reference = raw["spec"]["deploymentRef"]
        # Read, not remembered: the binding could be younger than what the store knows.
        binding = await services.kube.find("RAGBinding", reference["namespace"], uid_of(raw))
        if binding is not None and not binding["metadata"].get("deletionTimestamp"):
            if raw["spec"].get("deletionPolicy") == "Retain":
                await restore.retire(services, binding)
            else:
                await services.kube.delete(binding)
        if restored := raw["spec"].get("restoreFrom"):
            origin = Key("RAGBinding", reference["namespace"], restored["binding"])
            services.queue.wake(origin, after=0.2, cause="the tenant that claimed it went")
        for secret in services.store.of_tenant(uid_of(raw), "Secret"):
            await services.applier.delete(secret)
        patched = await services.kube.set_finalizer(raw, names.FINALIZER, present=False)
        services.store.put(patched)
        services.events.forget(uid_of(raw))
        services.queue.wake(
            Key("RAGDeployment", reference["namespace"], reference["name"]),
            after=1.0,
            cause="a tenant went",
        )
        return None
