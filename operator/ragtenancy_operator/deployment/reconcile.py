"""One pass over a RAGDeployment: observe, plan, apply, status. Safe to stop at any line."""

import asyncio
import logging
from collections.abc import Awaitable
from typing import Final

from ragtenancy_operator import names
from ragtenancy_operator.children import external, model_download, secrets
from ragtenancy_operator.children.base import Context, digest
from ragtenancy_operator.conditions import Verdict, merge, refused
from ragtenancy_operator.deployment import model_status, plan, status, volumes
from ragtenancy_operator.deployment.downloads import ASK_SECONDS, Downloads
from ragtenancy_operator.deployment.observe import Observed, context_of, observe
from ragtenancy_operator.deployment.rejections import in_spec
from ragtenancy_operator.deployment.teardown import Teardown, deleting
from ragtenancy_operator.errors import Refused, Rejected, Retry, Unreachable
from ragtenancy_operator.names import Component
from ragtenancy_operator.optional import MISSING
from ragtenancy_operator.services import Services
from ragtenancy_operator.store import (
    Key,
    Manifest,
    annotations_of,
    holds,
    key_of,
    labels_of,
    uid_of,
)

_log = logging.getLogger(__name__)
_RECHECK_SECONDS: Final = 5.0
"""How soon a missing Secret or an external server is looked for again: no event tells of them."""
_DELETION_SECONDS: Final = 2.0
"""How soon the teardown looks again: events tell of most that it waits for."""
_ROTATION_SECONDS: Final = 30.0
"""How soon it is noticed that a person's Secret has changed, or that an external server is away."""


class DeploymentReconciler:
    """Makes RAGDeployments so."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._downloads = Downloads(services)
        self._teardown = Teardown(services)
        self._told: dict[str, str] = {}  # by uid: what its tenants last heard of

    async def reconcile(self, key: Key) -> float | None:
        """One pass; returns in how many seconds to look again, or None.

        Raises:
            Retry: Something that is likely to pass.
        """
        services = self._services
        raw = services.store.get(*key)
        if raw is None:
            self._wake_tenants(key.namespace, key.name)
            return None
        if annotations_of(raw).get(names.ANNOTATION_PAUSED) == "true":
            return None
        if raw["metadata"].get("deletionTimestamp"):
            return await self._tear_down(raw)
        if names.FINALIZER not in (raw["metadata"].get("finalizers") or ()):
            raw = await services.kube.set_finalizer(raw, names.FINALIZER, present=True)
            services.store.put(raw)
        try:
            context = context_of(services, raw)
        except Refused as refusal:
            await self._refuse(raw, refusal)
            return None
        if not self._leaving(key.namespace):
            refusals = await self._make_secrets(context)
            held = await services.connections.read(context)
            observed = observe(services, raw, held)
            observed.failures.update(refusals)
            await self._apply(observed)
            await self._check(observed)
        else:
            # nothing can be made here any more, and what is deleted is not to come back
            observed = observe(services, raw)
        await self._report(observed)
        return self._next(observed)

    def _leaving(self, namespace: str) -> bool:
        home = self._services.store.get("Namespace", "", namespace)
        return home is not None and "deletionTimestamp" in home["metadata"]

    async def _refuse(self, raw: Manifest, refusal: Refused) -> None:
        generation = raw["metadata"].get("generation", 0)
        body = {
            "observedGeneration": generation,
            "conditions": merge(refused(refusal), (), generation),
        }
        patched = await self._services.kube.set_status(raw, body)
        if patched:
            self._services.store.put(patched)

    async def _make_secrets(self, context: Context) -> dict[str, Refused]:
        """Have the credentials; what is in their way, by component."""
        store, refusals = self._services.store, {}
        for name, component in secrets.wanted(context).items():
            if store.get("Secret", context.namespace, name) is None:
                try:
                    await self._services.applier.create(secrets.generate(context, name))
                except Refused as refusal:
                    refusals[component] = refusal
        return refusals

    async def _apply(self, observed: Observed) -> None:
        services, context = self._services, observed.context
        wanted, jobs = plan.wanted(context), self._downloads.jobs(context)
        for component, manifests in wanted.items():
            if component in observed.failures:
                continue  # its pods would start with somebody else's credentials
            there = []
            for manifest in manifests:
                missing = MISSING.get(manifest["kind"])
                if missing is None or manifest["kind"] in services.optional.served:
                    there.append(manifest)
                else:
                    observed.notes.setdefault(component, missing)
            try:
                if component in jobs:
                    there = await self._downloads.first(context, component, jobs[component], there)
                seen = [services.store.get(*key_of(manifest)) for manifest in there]
                there = [volumes.as_made(*pair) for pair in zip(there, seen, strict=True)]
                await services.applier.ensure_all(there)
            except Rejected as error:
                made = [*manifests, *([jobs[component]] if component in jobs else [])]
                observed.failures[component] = in_spec(context, component, made, error)
            except (Refused, Retry) as error:
                # one component's trouble is no other's
                observed.failures[component] = error
        await volumes.grow(services, observed, list(volumes.claims(wanted)))
        children = list(services.store.of_deployment(context.namespace, context.name))
        keep = {**wanted, "downloads": list(jobs.values())}
        for child in plan.unwanted(children, keep, uid_of(observed.raw)):
            # a component that is not taken as it should be stays as it was, whole
            if labels_of(child)[names.LABEL_COMPONENT] not in observed.failures:
                await services.applier.delete(child)

    async def _check(self, observed: Observed) -> None:
        """Make the collections, and ask external servers whether they answer."""
        services, context = self._services, observed.context
        children = services.store.of_deployment(context.namespace, context.name)
        workloads = status.workloads(children, context)
        kinds = status.CONDITIONS

        async def collections() -> None:
            managed = workloads.get(Component.WEAVIATE)
            if managed and not status.workload(kinds[Component.WEAVIATE], managed).true:
                return
            if not managed:
                await services.connections.check(context, Component.WEAVIATE, observed.held)
            connection = await services.connections.vector_store(context, observed.held)
            documents, chunks = names.collections(uid_of(observed.raw))
            settings = context.deployment.spec.vector_store.collection
            if await connection.client.ensure_collections(documents, chunks, settings):
                connection.tenants.forget()
                if any((each.get("status") or {}).get("documents") for each in observed.bindings):
                    await services.events.post(
                        observed.raw,
                        "Warning",
                        "CollectionsLost",
                        "its collections were gone from Weaviate and are made anew; the tenants "
                        "whose documents are lost say so",
                    )
                self._wake_tenants(context.namespace, context.name)

        checks: dict[str, Awaitable[None]] = {Component.WEAVIATE: collections()}
        for component in external.components(context):
            if component != Component.WEAVIATE:
                checks[component] = services.connections.check(context, component, observed.held)
        # at the same time: one that does not answer must not hold up what is said of the others
        for component, answer in zip(
            checks, await asyncio.gather(*checks.values(), return_exceptions=True), strict=True
        ):
            if isinstance(answer, (Refused, Retry)):
                observed.failures[component] = answer
            elif answer is not None:
                raise answer

    async def _report(self, observed: Observed) -> None:
        services, context = self._services, observed.context
        children = services.store.of_deployment(context.namespace, context.name)
        workloads = status.workloads(children, context)
        remarks = status.remarks(
            observed.bindings, services.findings.state_lost.get(uid_of(observed.raw))
        )
        models = await self._models(observed, workloads)
        results = status.verdicts(
            context,
            workloads,
            observed.failures,
            observed.notes,
            remarks,
            models=models,
            resizing=observed.resizing,
        )
        uids = {uid_of(tenant) for tenant in observed.tenants}
        uids |= {binding["metadata"]["name"] for binding in observed.bindings}
        ready = sum(holds(tenant, "Ready") for tenant in observed.tenants)
        body = status.status(context, results, len(uids), ready)
        if Component.GENERATION in workloads:
            served = model_download.in_service(
                workloads[Component.GENERATION].obj, context.deployment.status.generation
            )
            body["generation"] = served.wire() if served else None
        latest = services.store.get(*key_of(observed.raw)) or observed.raw
        patched = await services.kube.set_status(latest, body)
        if patched:
            services.store.put(patched)
        await self._announce(observed, results)
        self._tell_tenants(observed, results)

    async def _models(
        self, observed: Observed, workloads: dict[str, status.Workload]
    ) -> dict[str, Verdict]:
        """The conditions of managed models; notes what only a person can mend."""
        context = observed.context
        children = self._services.store.of_deployment(context.namespace, context.name)
        parts = await self._downloads.parts(context, children, workloads)
        verdicts = {}
        for component, part in parts.items():
            found = model_status.verdict(status.CONDITIONS[component], part)
            if found.reason in model_status.STALLING_REASONS:
                observed.notes.setdefault(component, Refused(found.reason, found.message))
            observed.downloading |= found.reason == "Downloading"
            verdicts[component] = found
        return verdicts

    async def _announce(self, observed: Observed, results: list[Verdict]) -> None:
        before = {c.type: c.status for c in observed.context.deployment.status.conditions}
        verdict = next(result for result in results if result.type == "Ready")
        if verdict.status == before.get("Ready"):
            return
        post = self._services.events.post
        if verdict.true:
            await post(observed.raw, "Normal", "Ready", verdict.message)
        elif "Ready" in before:
            await post(observed.raw, "Warning", verdict.reason, verdict.message)

    def _tell_tenants(self, observed: Observed, results: list[Verdict]) -> None:
        """Wake the tenants when what they depend on has changed."""
        uid, generation = uid_of(observed.raw), observed.raw["metadata"].get("generation", 0)
        now = digest([generation, [[r.type, r.status] for r in results]])
        if self._told.get(uid) != now:
            self._told[uid] = now
            self._wake_tenants(observed.context.namespace, observed.context.name)

    def _wake_tenants(self, namespace: str, name: str) -> None:
        for tenant in self._services.store.tenants_of(namespace, name):
            self._services.queue.wake(key_of(tenant), cause="its deployment changed")

    def _next(self, observed: Observed) -> float | None:
        transient = [
            error
            for error in observed.failures.values()
            if isinstance(error, Retry) and not isinstance(error, Unreachable)
        ]
        if transient:
            raise transient[0]
        if observed.failures or observed.notes:
            return _RECHECK_SECONDS
        if observed.downloading:
            return ASK_SECONDS
        return _ROTATION_SECONDS if external.components(observed.context) else None

    async def _tear_down(self, raw: Manifest) -> float | None:
        """Let the deployment go when nothing of it is left to end in order."""
        services, key = self._services, key_of(raw)
        if names.FINALIZER not in (raw["metadata"].get("finalizers") or ()):
            return None
        try:
            waits = await self._teardown.step(raw, leaving=self._leaving(key.namespace))
        except Retry as error:
            await self._say_deleting(raw, str(error))
            raise
        if waits is not None:
            await self._say_deleting(raw, waits)
            return _DELETION_SECONDS
        services.connections.forget(uid_of(raw))
        self._told.pop(uid_of(raw), None)
        services.events.forget(uid_of(raw))
        patched = await services.kube.set_finalizer(
            services.store.get(*key) or raw, names.FINALIZER, present=False
        )
        services.store.put(patched)
        return None

    async def _say_deleting(self, raw: Manifest, text: str) -> None:
        patched = await self._services.kube.set_status(raw, deleting(raw, text[:4096]))
        if patched:
            self._services.store.put(patched)
            self._wake_tenants(raw["metadata"]["namespace"], raw["metadata"]["name"])
