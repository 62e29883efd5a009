"""The last seen state of every object that the operator watches, in memory.

Reconciles read from here and not from the API server. Watch events fill it, and so does the reply
to every write, so that a late event cannot make a write happen twice. Secrets are kept without
their values: each value is replaced by its SHA-256.
"""

import base64
import binascii
import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from ragtenancy_operator.names import LABEL_DEPLOYMENT, LABEL_DEPLOYMENT_NAMESPACE, LABEL_TENANT_UID

Manifest = dict[str, Any]


class Key(NamedTuple):
    """Identity of an object by its name."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        """Kind and path, as kubectl writes them."""
        return f"{self.kind}/{self.namespace}/{self.name}"


Group = tuple[str, ...]
_GONE_REMEMBERED: Final = 10_000
"""Uids of deleted objects that are remembered: a reply that is late is so by seconds."""


def key_of(obj: Manifest) -> Key:
    """The key of an object."""
    metadata = obj["metadata"]
    return Key(obj["kind"], metadata.get("namespace", ""), metadata["name"])


def uid_of(obj: Manifest) -> str:
    """The uid of an object."""
    return str(obj["metadata"].get("uid", ""))


def labels_of(obj: Manifest) -> dict[str, str]:
    """The labels of an object."""
    return obj["metadata"].get("labels") or {}


def annotations_of(obj: Manifest) -> dict[str, str]:
    """The annotations of an object."""
    return obj["metadata"].get("annotations") or {}


def holds(obj: Manifest, condition: str) -> bool:
    """Whether a condition of an object is True, as its status says."""
    conditions = obj.get("status", {}).get("conditions") or ()
    return any(c.get("type") == condition and c.get("status") == "True" for c in conditions)


def sha256_of(value: str) -> str:
    """SHA-256 in hex of one value of a Secret's data (base64)."""
    try:
        return hashlib.sha256(base64.b64decode(value)).hexdigest()
    except (binascii.Error, ValueError):
        return ""


def _version(obj: Manifest) -> int:
    return int(obj["metadata"].get("resourceVersion") or 0)


def _groups(obj: Manifest) -> list[Group]:
    """The groups that an object is listed under."""
    metadata, labels = obj["metadata"], labels_of(obj)
    namespace = metadata.get("namespace", "")
    groups: list[Group] = [("kind", obj["kind"])]
    if name := labels.get(LABEL_DEPLOYMENT):
        home = labels.get(LABEL_DEPLOYMENT_NAMESPACE, namespace)
        groups.append(("deployment", home, name))
    if tenant := labels.get(LABEL_TENANT_UID):
        groups.append(("tenant", tenant))
    if obj["kind"] == "RAGTenant":
        reference = obj.get("spec", {}).get("deploymentRef", {})
        groups.append(("tenants", reference.get("namespace", ""), reference.get("name", "")))
        groups.append(("tenants in", namespace))
    if obj["kind"] == "RAGBinding":
        spec = obj.get("spec", {})
        groups.extend(("key", key["sha256"]) for key in spec.get("keys") or ())
        groups.append(_place(spec.get("placement", {})))
    return groups


def _place(placement: Mapping[str, Any]) -> Group:
    parts = (placement.get(name) or "" for name in ("documents", "chunks", "tenant", "owner"))
    return ("place", *parts)


def kept(obj: Manifest) -> Manifest:
    """An object as the store keeps it: no managedFields, and a Secret's values as SHA-256."""
    metadata = {k: v for k, v in obj["metadata"].items() if k != "managedFields"}
    result = {**obj, "metadata": metadata}
    if obj["kind"] == "Secret":
        result["data"] = {k: sha256_of(v) for k, v in (obj.get("data") or {}).items()}
        result.pop("stringData", None)
    return result


class Store:
    """The objects, by key and by group."""

    def __init__(self) -> None:
        self._objects: dict[Key, Manifest] = {}
        self._groups: dict[Group, set[Key]] = defaultdict(set)
        self._gone: dict[str, None] = {}

    def put(self, obj: Manifest) -> bool:
        """Take in an object unless a newer one is known; says whether it was taken.

        One that was deleted does not come back: the reply to the write that took its last
        finalizer off may arrive after the event of its end.
        """
        if uid_of(obj) in self._gone:
            return False
        key = key_of(obj)
        known = self._objects.get(key)
        if known is not None and _version(known) >= _version(obj):
            return False
        if known is not None:
            self._forget(key, known)
        held = kept(obj)
        self._objects[key] = held
        for group in _groups(held):
            self._groups[group].add(key)
        return True

    def remove(self, obj: Manifest) -> bool:
        """Drop an object that was deleted; says whether it was here.

        A younger object of the same name stays.
        """
        self._gone[uid_of(obj)] = None
        if len(self._gone) > _GONE_REMEMBERED:
            del self._gone[next(iter(self._gone))]
        key = key_of(obj)
        known = self._objects.get(key)
        if known is None or (uid_of(known) != uid_of(obj) and _version(known) > _version(obj)):
            return False
        self._forget(key, known)
        return True

    def _forget(self, key: Key, known: Manifest) -> None:
        del self._objects[key]
        for group in _groups(known):
            members = self._groups[group]
            members.discard(key)
            if not members:
                del self._groups[group]

    def get(self, kind: str, namespace: str, name: str) -> Manifest | None:
        """The object of this name, if it is there."""
        return self._objects.get(Key(kind, namespace, name))

    def _members(self, group: Group, kind: str | None) -> Iterator[Manifest]:
        for key in sorted(self._groups.get(group, ())):
            if kind is None or key.kind == kind:
                yield self._objects[key]

    def of_kind(self, kind: str) -> Iterator[Manifest]:
        """Every object of a kind."""
        return self._members(("kind", kind), None)

    def of_deployment(
        self, namespace: str, name: str, kind: str | None = None
    ) -> Iterator[Manifest]:
        """The children of a RAGDeployment, its bindings among them."""
        return self._members(("deployment", namespace, name), kind)

    def of_tenant(self, uid: str, kind: str | None = None) -> Iterator[Manifest]:
        """The children of a RAGTenant."""
        return self._members(("tenant", uid), kind)

    def tenants_of(self, namespace: str, name: str) -> Iterator[Manifest]:
        """The RAGTenants that point to a RAGDeployment, which need not exist."""
        return self._members(("tenants", namespace, name), "RAGTenant")

    def tenants_in(self, namespace: str) -> Iterator[Manifest]:
        """The RAGTenants in a namespace."""
        return self._members(("tenants in", namespace), "RAGTenant")

    def bindings_with(self, sha256: str) -> Iterator[Manifest]:
        """The RAGBindings that hold the hash of a key."""
        return self._members(("key", sha256), "RAGBinding")

    def bindings_at(self, placement: Mapping[str, Any]) -> Iterator[Manifest]:
        """The RAGBindings whose documents are in one place (a binding's ``spec.placement``)."""
        return self._members(_place(placement), "RAGBinding")

    def __len__(self) -> int:
        return len(self._objects)
