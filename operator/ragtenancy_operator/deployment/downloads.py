"""Has each model downloaded before its vLLM is made, and asks the pods how far they are."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

from ragtenancy_api.wiring import DOWNLOAD_PATH, DownloadProgress
from ragtenancy_operator import names
from ragtenancy_operator.apply import stamped
from ragtenancy_operator.children import model_download, vllm
from ragtenancy_operator.children.base import Context
from ragtenancy_operator.deployment.model_status import ModelPart
from ragtenancy_operator.deployment.status import Workload
from ragtenancy_operator.names import LABEL_COMPONENT, Component
from ragtenancy_operator.services import Services
from ragtenancy_operator.store import Manifest, key_of, labels_of, uid_of

ASK_SECONDS: Final = 5.0
"""How often a pod is asked, and so the status written, while it downloads."""
_MODELS: Final = (Component.EMBEDDING, Component.GENERATION)


class Downloads:
    """The downloads of all deployments' models."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._said: dict[str, tuple[float, DownloadProgress | None]] = {}  # by the Job's uid

    def jobs(self, context: Context) -> dict[str, Manifest]:
        """The Job that each managed model should have, by component."""
        built = {
            component: model_download.build(context, component, self._claim_uid(context, component))
            for component in _MODELS
        }
        return {component: stamped(job) for component, job in built.items() if job is not None}

    def _claim_uid(self, context: Context, component: str) -> str:
        name = vllm.cache_claim(context, component)
        claim = self._services.store.get("PersistentVolumeClaim", context.namespace, name)
        gone = claim is None or "deletionTimestamp" in claim["metadata"]
        return "" if claim is None or gone else uid_of(claim)

    async def first(
        self, context: Context, component: str, job: Manifest, manifests: Sequence[Manifest]
    ) -> list[Manifest]:
        """Have the Job; returns the component's objects that may be made by now.

        The Deployment waits for the download. One that serves the model already does not: it may
        be that only the Job is gone.

        Raises:
            Refused: An object of the Job's name is somebody else's, or the API server rejects it.
        """
        services = self._services
        claim_uid = self._claim_uid(context, component)
        held = services.store.get(*key_of(job))
        if not claim_uid:
            pass  # it is made with the others, and wakes this reconcile
        elif held is None:
            held = await services.applier.create(job)
        elif model_download.outdated(held, job) and "deletionTimestamp" not in held["metadata"]:
            await services.applier.delete(held)  # its end wakes this reconcile
        workload = services.store.get("Deployment", context.namespace, context.child(component))
        model = vllm.model_of(context, component).model
        if (claim_uid and model_download.complete(held, claim_uid)) or model_download.served(
            workload
        ) == model:
            return list(manifests)
        return [manifest for manifest in manifests if manifest["kind"] != "Deployment"]

    async def parts(
        self, context: Context, children: Iterable[Manifest], workloads: dict[str, Workload]
    ) -> dict[str, ModelPart]:
        """What there is of each managed model, by component."""
        pods: dict[str, list[Manifest]] = {}
        for child in children:
            if child["kind"] == "Pod" and "deletionTimestamp" not in child["metadata"]:
                pods.setdefault(labels_of(child).get(LABEL_COMPONENT, ""), []).append(child)
        parts = {}
        for component, wanted in self.jobs(context).items():
            job = self._services.store.get(*key_of(wanted))
            downloaded = model_download.complete(job, self._claim_uid(context, component))
            of_job = [
                pod
                for pod in pods.get(names.download(component), ())
                if job is not None and _owned(pod, job)
            ]
            progress = await self._progress(job, of_job) if job and not downloaded else None
            parts[component] = ModelPart(
                vllm.model_of(context, component).model,
                job,
                downloaded,
                of_job,
                progress,
                workloads[component],
            )
        return parts

    async def _progress(self, job: Manifest, pods: Sequence[Manifest]) -> DownloadProgress | None:
        now, uid = asyncio.get_running_loop().time(), uid_of(job)
        running = [pod for pod in pods if _running(pod)]
        if not running:
            self._said.pop(uid, None)
            return None
        asked, said = self._said.get(uid, (None, None))
        if asked is None or now - asked >= ASK_SECONDS or said is None:
            said = await self._services.served.ask(running[0], DOWNLOAD_PATH, DownloadProgress)
            self._said[uid] = (now, said)
        return said


def _owned(pod: Manifest, job: Manifest) -> bool:
    owners = pod["metadata"].get("ownerReferences") or ()
    return any(owner.get("uid") == uid_of(job) for owner in owners)


def _running(pod: Manifest) -> bool:
    status = pod.get("status", {})
    containers = status.get("containerStatuses") or ()
    return bool(status.get("podIP")) and any(
        "running" in (c.get("state") or {}) for c in containers
    )
