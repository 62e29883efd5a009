"""The one place that talks to the API server. Objects are plain dicts, as in a manifest."""

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

import aiohttp
from kubernetes.aio import client, config
from kubernetes.aio.client import ApiException

from ragtenancy_operator.errors import KubeError, Retry
from ragtenancy_operator.names import MANAGER
from ragtenancy_operator.store import Manifest

_log = logging.getLogger(__name__)
_TIMEOUT_SECONDS: Final = 15
_NO_ANSWER: Final = "<error>"
"""client-go's code of a request that had no answer."""
Count = Callable[[str, str, str], None]
"""Told of each request: status code, method, host."""

_writes: ContextVar[list[str] | None] = ContextVar("writes", default=None)


@contextmanager
def counted_writes() -> Iterator[list[str]]:
    """The writes that are made inside, also by tasks that are started there: method and path."""
    writes: list[str] = []
    token = _writes.set(writes)
    try:
        yield writes
    finally:
        _writes.reset(token)


PLURALS: Final = {
    "Event": ("v1", "events"),
    "Namespace": ("v1", "namespaces"),
    "PersistentVolumeClaim": ("v1", "persistentvolumeclaims"),
    "Pod": ("v1", "pods"),
    "Secret": ("v1", "secrets"),
    "Service": ("v1", "services"),
    "ServiceAccount": ("v1", "serviceaccounts"),
    "Deployment": ("apps/v1", "deployments"),
    "StatefulSet": ("apps/v1", "statefulsets"),
    "Job": ("batch/v1", "jobs"),
    "HorizontalPodAutoscaler": ("autoscaling/v2", "horizontalpodautoscalers"),
    "Ingress": ("networking.k8s.io/v1", "ingresses"),
    "NetworkPolicy": ("networking.k8s.io/v1", "networkpolicies"),
    "HTTPRoute": ("gateway.networking.k8s.io/v1", "httproutes"),
    "ServiceMonitor": ("monitoring.coreos.com/v1", "servicemonitors"),
    "StorageClass": ("storage.k8s.io/v1", "storageclasses"),
    "Lease": ("coordination.k8s.io/v1", "leases"),
    "PodDisruptionBudget": ("policy/v1", "poddisruptionbudgets"),
    "Role": ("rbac.authorization.k8s.io/v1", "roles"),
    "RoleBinding": ("rbac.authorization.k8s.io/v1", "rolebindings"),
    "RAGBinding": ("ragtenancy.io/v1alpha1", "ragbindings"),
    "RAGDeployment": ("ragtenancy.io/v1alpha1", "ragdeployments"),
    "RAGTenant": ("ragtenancy.io/v1alpha1", "ragtenants"),
}
"""apiVersion and plural of every kind that the operator touches."""

_JSON: Final = "application/json"
_MERGE: Final = "application/merge-patch+json"
_APPLY: Final = "application/apply-patch+yaml"


def _path(kind: str, namespace: str, name: str = "", subresource: str = "") -> str:
    version, plural = PLURALS[kind]
    root = f"/api/{version}" if "/" not in version else f"/apis/{version}"
    parts = [root]
    if namespace:
        parts += ["namespaces", namespace]
    parts.append(plural)
    return "/".join([*parts, *filter(None, (name, subresource))])


def _dry(dry_run: bool) -> dict[str, str]:
    return {"dryRun": "All"} if dry_run else {}


class Kube:
    """A client of the API server. Use as an asynchronous context manager.

    Every method raises KubeError for an answer that is no success, and Retry when there was none.
    """

    def __init__(self, kubeconfig: Path | None = None, count: Count | None = None) -> None:
        """Take the pod's credentials, or those of a kubeconfig (else of the default one)."""
        self._kubeconfig = kubeconfig
        self._count = count
        self._api: client.ApiClient | None = None

    async def __aenter__(self) -> Self:
        try:
            config.load_incluster_config()
        except config.ConfigException:
            await config.load_kube_config(self._kubeconfig and str(self._kubeconfig))
        self._api = client.ApiClient()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._api is not None:
            await self._api.close()

    async def _request(
        self,
        method: str,
        path: str,
        body: Any = None,
        content_type: str = _JSON,
        query: dict[str, str] | None = None,
    ) -> Manifest:
        if self._api is None:
            raise RuntimeError("Kube is used outside its context")
        writes = _writes.get()
        if writes is not None and method != "GET" and "dryRun" not in (query or {}):
            writes.append(f"{method} {path}")
        try:
            request = await self._api.param_serialize(
                method,
                path,
                query_params=list((query or {}).items()),
                header_params={"Accept": _JSON, "Content-Type": content_type},
                body=body,
                auth_settings=["BearerToken"],
            )
            response = await self._api.call_api(*request, _request_timeout=_TIMEOUT_SECONDS)
            data = await response.read()
        except ApiException as error:
            self._note(method, str(error.status or _NO_ANSWER))
            raise _error(error.status or 0, error.body) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._note(method, _NO_ANSWER)
            raise Retry(f"the API server did not answer {method} {path}: {error!r}") from error
        self._note(method, str(response.status))
        _log.debug("%s %s: %s", method, path, response.status)
        if response.status >= 400:
            raise _error(response.status, data)
        answer = json.loads(data)
        if not isinstance(answer, dict):
            raise Retry(f"the API server answered {method} {path} with no object")
        return answer

    def _note(self, method: str, code: str) -> None:
        if self._count is not None and self._api is not None:
            self._count(code, method, urlsplit(self._api.configuration.host).netloc)

    async def served(self, version: str) -> set[str]:
        """Plurals of the resources that the API server serves in a group version."""
        try:
            answer = await self._request("GET", f"/apis/{version}")
        except KubeError as error:
            if error.not_found:
                return set()
            raise
        return {resource["name"] for resource in answer["resources"]}

    async def get(self, kind: str, namespace: str, name: str) -> Manifest:
        """Read one object."""
        return await self._request("GET", _path(kind, namespace, name))

    async def find(self, kind: str, namespace: str, name: str) -> Manifest | None:
        """Read one object; None when it is not there."""
        try:
            return await self.get(kind, namespace, name)
        except KubeError as error:
            if error.not_found:
                return None
            raise

    async def find_all(
        self, kind: str, namespace: str, selector: str
    ) -> tuple[str, list[Manifest]]:
        """Objects by their labels, and the resourceVersion at which they were so.

        The answer may be some moments old: it comes from the API server's cache.
        """
        query = {"labelSelector": selector, "resourceVersion": "0"}
        answer = await self._request("GET", _path(kind, namespace), query=query)
        # items of a list come without their kind
        common = {"apiVersion": PLURALS[kind][0], "kind": kind}
        return answer["metadata"]["resourceVersion"], [common | i for i in answer["items"]]

    async def create(self, manifest: Manifest, *, dry_run: bool = False) -> Manifest:
        """Create an object; with ``dry_run`` only ask whether the API server would take it."""
        query = {"fieldManager": MANAGER, "fieldValidation": "Strict"} | _dry(dry_run)
        path = _path(manifest["kind"], manifest["metadata"].get("namespace", ""))
        return await self._request("POST", path, manifest, query=query)

    async def apply(
        self, manifest: Manifest, *, manager: str = MANAGER, dry_run: bool = False
    ) -> Manifest:
        """Apply an object on the server's side. With ``metadata.uid`` it is never recreated."""
        metadata = manifest["metadata"]
        query = {"fieldManager": manager, "fieldValidation": "Strict", "force": "true"}
        query |= _dry(dry_run)
        path = _path(manifest["kind"], metadata.get("namespace", ""), metadata["name"])
        return await self._request("PATCH", path, manifest, _APPLY, query)

    async def merge(
        self, kind: str, namespace: str, name: str, patch: Manifest, subresource: str = ""
    ) -> Manifest:
        """Merge a patch into an object (RFC 7396)."""
        query = {"fieldManager": f"{MANAGER}-patch", "fieldValidation": "Strict"}
        path = _path(kind, namespace, name, subresource)
        return await self._request("PATCH", path, patch, _MERGE, query)

    async def set_finalizer(self, obj: Manifest, name: str, *, present: bool) -> Manifest:
        """Add a finalizer to an object, or take it off; 409 when the object changed meanwhile."""
        metadata = obj["metadata"]
        finalizers = [held for held in metadata.get("finalizers") or () if held != name]
        patch = {
            "metadata": {
                "resourceVersion": metadata["resourceVersion"],
                "uid": metadata["uid"],
                "finalizers": [*finalizers, *([name] if present else [])],
            }
        }
        return await self.merge(obj["kind"], metadata["namespace"], metadata["name"], patch)

    async def set_status(self, obj: Manifest, status: Manifest) -> Manifest | None:
        """Write an object's status unless it says this already; None when it does.

        Entries that are None, or that the status has and should not, are removed.
        """
        metadata, observed = obj["metadata"], obj.get("status") or {}
        wanted = {name: value for name, value in status.items() if value is not None}
        if wanted == observed:
            return None
        patch = {**dict.fromkeys(observed), **status}
        return await self.merge(
            obj["kind"], metadata["namespace"], metadata["name"], {"status": patch}, "status"
        )

    async def replace(self, manifest: Manifest) -> Manifest:
        """Replace an object; 409 when it changed since its resourceVersion."""
        metadata = manifest["metadata"]
        path = _path(manifest["kind"], metadata.get("namespace", ""), metadata["name"])
        return await self._request("PUT", path, manifest, query={"fieldManager": MANAGER})

    async def delete(self, obj: Manifest) -> None:
        """Delete this very object, by its uid; one that is gone already is no error."""
        metadata = obj["metadata"]
        path = _path(obj["kind"], metadata.get("namespace", ""), metadata["name"])
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": metadata["uid"]},
            "propagationPolicy": "Background",
        }
        try:
            await self._request("DELETE", path, body)
        except KubeError as error:
            if not error.not_found:
                raise


def _error(status: int, body: bytes | str | None) -> KubeError:
    try:
        answer = json.loads(body or "")
        reason, message = str(answer.get("reason", "")), str(answer.get("message", ""))
    except (ValueError, AttributeError):
        reason, message = "", str(body or "")[:200]
    return KubeError(status, reason, message)
