"""What one process observes of an object and plans for it, for people; without secrets.

It is read from memory: a process that does not lead answers too, and nothing asks the API server.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any, Final

from ragtenancy_operator.apply import contains, stamped
from ragtenancy_operator.children.base import Context
from ragtenancy_operator.deployment import observe as deployment_observe
from ragtenancy_operator.deployment import plan as deployment_plan
from ragtenancy_operator.deployment.downloads import Downloads
from ragtenancy_operator.errors import Refused
from ragtenancy_operator.names import ANNOTATION_APPLIED
from ragtenancy_operator.redact import redacted
from ragtenancy_operator.services import Services
from ragtenancy_operator.store import (
    Key,
    Manifest,
    annotations_of,
    holds,
    kept,
    key_of,
    labels_of,
    uid_of,
)
from ragtenancy_operator.tenant import observe as tenant_observe
from ragtenancy_operator.tenant import plan as tenant_plan
from ragtenancy_operator.worker import Pass

Page = dict[str, Any]

PATHS: Final = {"deployments": "RAGDeployment", "tenants": "RAGTenant"}
"""Kind by its word in the path."""


class Debug:
    """The pages of one process."""

    def __init__(
        self, services: Services, last: Callable[[Key], Pass | None], leads: Callable[[], bool]
    ) -> None:
        self._services = services
        self._last = last
        self._leads = leads

    def page(self, key: Key) -> Page | None:
        """What is known of a RAGDeployment or RAGTenant; None when there is none of this name."""
        raw = self._services.store.get(*key)
        if raw is None:
            return None
        observed, planned = self._tenant(raw) if key.kind == "RAGTenant" else self._deployment(raw)
        last = self._last(key)
        page: Page = {
            "key": str(key),
            "process": {"identity": self._services.settings.identity, "leads": self._leads()},
            "queue": asdict(self._services.queue.state(key)),
            "last": None if last is None else last.fields(),
            "observed": {"object": raw, **observed},
            "planned": planned,
        }
        if not self._leads():
            page["process"]["note"] = (
                "another process leads: this one observes, and has no queue. See the holder of "
                f"Lease {self._services.settings.namespace}/ragtenancy-operator"
            )
        return dict(redacted(page))

    def _deployment(self, raw: Manifest) -> tuple[Page, Page]:
        services, key = self._services, key_of(raw)
        store = services.store
        children = list(store.of_deployment(key.namespace, key.name))
        observed: Page = {
            "children": [self._child(child) for child in children if child["kind"] != "RAGBinding"],
            "tenants": [_named(t) for t in store.tenants_of(key.namespace, key.name)],
            "bindings": [_named(child) for child in children if child["kind"] == "RAGBinding"],
        }
        try:
            context = deployment_observe.context_of(services, raw)
        except Refused as refusal:
            return observed, _refused(refusal)
        jobs = Downloads(services).jobs(context)
        wanted = {**deployment_plan.wanted(context), "downloads": list(jobs.values())}
        manifests = [manifest for made in wanted.values() for manifest in made]
        planned = self._planned(manifests)
        unwanted = deployment_plan.unwanted(children, wanted, uid_of(raw))
        planned["differences"] |= {str(key_of(child)): "to be deleted" for child in unwanted}
        return observed, planned

    def _tenant(self, raw: Manifest) -> tuple[Page, Page]:
        services, uid = self._services, uid_of(raw)
        store, reference = services.store, raw["spec"]["deploymentRef"]
        home = reference["namespace"], reference["name"]
        namespace = store.get("Namespace", "", raw["metadata"]["namespace"])
        deployment = store.get("RAGDeployment", *home)
        observed: Page = {
            "namespaceLabels": None if namespace is None else labels_of(namespace),
            "deployment": None if deployment is None else _named(deployment),
            "binding": store.get("RAGBinding", home[0], uid),
            "children": [
                self._child(child) for child in store.of_tenant(uid) if child["kind"] == "Secret"
            ],
            "pods": [self._child(pod) for pod in services.served.pods(*home)],
        }
        try:
            seen = tenant_observe.observe(services, raw)
            accepted = tenant_plan.accepted(seen)
            context: Context | None = seen.deployment
            manifests = []
            if accepted.true and context is not None:
                manifests = tenant_plan.children(seen, context)
        except Refused as refusal:
            return observed, _refused(refusal)
        return observed, {"accepted": asdict(accepted), **self._planned(manifests)}

    def _child(self, child: Manifest) -> Page:
        page = _named(child)
        if child["kind"] == "Pod":
            # up to which resourceVersion of the bindings an API pod has come, when last asked
            page["reached"] = self._services.served.reached(uid_of(child))
        return page

    def _planned(self, manifests: Iterable[Manifest]) -> Page:
        planned = [
            manifest if ANNOTATION_APPLIED in annotations_of(manifest) else stamped(manifest)
            for manifest in manifests
        ]
        found = {str(key_of(manifest)): self._difference(manifest) for manifest in planned}
        return {
            "children": planned,
            "differences": {key: what for key, what in found.items() if what is not None},
        }

    def _difference(self, planned: Manifest) -> Any:
        """What the next pass would change; None when it would not."""
        observed = self._services.store.get(*key_of(planned))
        if observed is None:
            return "to be created"
        if not self._services.applier.differs(observed, planned):
            return None
        if planned["kind"] == "Secret":
            return "to be applied"
        return list(differences(redacted(observed), redacted(kept(planned)))) or "to be applied"


def _refused(refusal: Refused) -> Page:
    return {"refused": {"reason": refusal.reason, "message": refusal.message}}


def _named(obj: Manifest) -> Page:
    metadata, status = obj["metadata"], obj.get("status") or {}
    ready: Any = None
    match obj["kind"]:
        case "Deployment" | "StatefulSet":
            ready = f"{status.get('readyReplicas', 0)} of {obj['spec'].get('replicas', 1)}"
        case "PersistentVolumeClaim":
            ready = status.get("phase")
        case "Pod" | "RAGDeployment" | "RAGTenant":
            ready = holds(obj, "Ready")
    return {
        "kind": obj["kind"],
        "namespace": metadata.get("namespace"),
        "name": metadata["name"],
        "resourceVersion": metadata.get("resourceVersion"),
        "deletionTimestamp": metadata.get("deletionTimestamp"),
        "ready": ready,
    }


def differences(observed: Any, planned: Any, path: str = "") -> Iterable[Page]:
    """Where an object is other than it is planned: the path, what is there, what should be."""
    if contains(observed, planned):
        return
    if isinstance(planned, dict) and isinstance(observed, dict):
        for name, value in planned.items():
            yield from differences(observed.get(name), value, f"{path}.{name}".lstrip("."))
    elif (
        isinstance(planned, list)
        and isinstance(observed, list)
        and all(isinstance(item, dict) and "name" in item for item in [*planned, *observed])
    ):
        held = {item["name"]: item for item in observed}
        for item in planned:
            yield from differences(held.get(item["name"]), item, f"{path}[{item['name']}]")
    else:
        yield {"path": path, "observed": observed, "planned": planned}
