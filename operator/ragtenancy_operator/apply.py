"""Making one child so: created by POST, updated by server-side apply, only when it differs."""

from collections.abc import Sequence
from typing import Any, Final

from ragtenancy_operator.children.base import digest, quantity
from ragtenancy_operator.errors import KubeError, Refused, Rejected, Retry
from ragtenancy_operator.kube import Kube
from ragtenancy_operator.names import ANNOTATION_APPLIED, LABEL_TENANT_UID, MANAGER
from ragtenancy_operator.store import (
    Key,
    Manifest,
    Store,
    annotations_of,
    kept,
    key_of,
    labels_of,
    uid_of,
)

_QUANTITIES: Final = ("limits", "requests")


def contains(observed: Any, wanted: Any) -> bool:  # noqa: PLR0911 - one return for each shape
    """Whether all that is wanted is there.

    Lists of named items (containers, variables, ports) are matched by name, others by position.
    What the API server or another manager added does not count.
    """
    if isinstance(wanted, dict):
        if not isinstance(observed, dict):
            return not wanted and observed is None
        return all(
            (_same_quantities if name in _QUANTITIES else contains)(observed.get(name), value)
            for name, value in wanted.items()
        )
    if isinstance(wanted, list):
        if not wanted:
            return not observed
        if not isinstance(observed, list):
            return False
        if _named(wanted):
            named = {item.get("name"): item for item in observed if isinstance(item, dict)}
            return all(contains(named.get(item["name"]), item) for item in wanted)
        return len(observed) == len(wanted) and all(map(contains, observed, wanted))
    # the API server leaves empty values out
    return bool(observed == wanted) or (observed is None and not wanted)


def _named(items: list[Any]) -> bool:
    """Whether each item has a name of its own: a volume may be mounted twice."""
    names = [item.get("name") for item in items if isinstance(item, dict)]
    return len(names) == len(items) == len(set(names)) and None not in names


def _same_quantities(observed: Any, wanted: Any) -> bool:
    """Whether amounts are the same, however they are written: 1000m reads back as 1."""
    if not isinstance(wanted, dict) or not isinstance(observed, dict):
        return contains(observed, wanted)
    try:
        return all(
            name in observed and quantity(observed[name]) == quantity(amount)
            for name, amount in wanted.items()
        )
    except ValueError:
        return contains(observed, wanted)


def fingerprint(obj: Manifest) -> str:
    """What of an object a person or another controller could have edited."""
    body = {name: value for name, value in obj.items() if name not in ("metadata", "status")}
    metadata = obj["metadata"]
    return digest(
        [
            body,
            labels_of(obj),
            annotations_of(obj).get(ANNOTATION_APPLIED),
            metadata.get("ownerReferences"),
            metadata.get("finalizers"),
        ]
    )


def stamped(manifest: Manifest) -> Manifest:
    """The manifest with its own hash, by which a removed field is noticed."""
    metadata = manifest["metadata"]
    annotations = {**(metadata.get("annotations") or {}), ANNOTATION_APPLIED: digest(manifest)}
    return {**manifest, "metadata": {**metadata, "annotations": annotations}}


def ours(observed: Manifest, wanted: Manifest) -> bool:
    """Whether an object of the wanted name belongs to the same owner."""
    owners = {ref["uid"] for ref in wanted["metadata"].get("ownerReferences", ())}
    if owners:
        held = {ref.get("uid") for ref in observed["metadata"].get("ownerReferences") or ()}
        return bool(owners & held)
    uid = labels_of(wanted).get(LABEL_TENANT_UID)
    return uid is not None and labels_of(observed).get(LABEL_TENANT_UID) == uid


_HANDS_OVER: Final = f"{MANAGER}-replicas"
"""Field manager of the replicas that an autoscaler is about to take."""
_UNREHEARSED: Final = frozenset({"RoleBinding"})
"""Refers to a Role that is made just before it: without it the API server refuses the binding."""


def _owns_replicas(obj: Manifest) -> bool:
    """Whether spec.replicas is ours, as the managedFields say."""
    return any(
        "f:replicas" in entry.get("fieldsV1", {}).get("f:spec", {})
        for entry in obj["metadata"].get("managedFields") or ()
        if entry.get("manager") == MANAGER and "subresource" not in entry
    )


class Applier:
    """Writes children, and remembers what the API server made of them."""

    def __init__(self, kube: Kube, store: Store) -> None:
        self._kube = kube
        self._store = store
        # The API server may normalise what we wrote (a quantity of 1000m reads back as 1). What
        # it answered to the last write is remembered, so that this is no difference.
        self._settled: dict[Key, tuple[str, str]] = {}

    async def create(self, manifest: Manifest, *, dry_run: bool = False) -> Manifest:
        """Create an object, or take it as it is when it is there and has the same owner.

        Args:
            manifest: The object.
            dry_run: Only ask the API server whether it would take it.

        Raises:
            Refused: An object of this name is somebody else's.
        """
        key = key_of(manifest)
        try:
            created = await self._kube.create(manifest, dry_run=dry_run)
        except KubeError as error:
            if error.invalid:
                raise Rejected(str(key), error.message) from error
            if not error.already_exists:
                raise
            live = await self._kube.find(*key)
            if live is None:
                raise Retry(f"{key} was deleted while it was created") from error
            created = live
        # a stranger must not come into the store: no watch would tell of its end
        self._check(key, created, manifest)
        if not dry_run:
            self._store.put(created)
        return created

    async def ensure_all(self, wanted: Sequence[Manifest]) -> None:
        """Have the objects of a component as they are wanted.

        Several are rehearsed on the server's side first, so that a component of which one object
        is refused stays as it was, whole.

        Raises:
            Refused: One of them is somebody else's, or the API server rejects it.
            Retry: One of them is on its way out.
        """
        changed = [manifest for manifest in wanted if self._other(stamped(manifest))]
        if len(changed) > 1:
            for manifest in changed:
                if manifest["kind"] not in _UNREHEARSED:
                    await self.ensure(manifest, dry_run=True)
        for manifest in changed:
            await self.ensure(manifest)

    def _other(self, manifest: Manifest) -> bool:
        observed = self._store.get(*key_of(manifest))
        return (
            observed is None
            or not ours(observed, manifest)
            or "deletionTimestamp" in observed["metadata"]
            or self.differs(observed, manifest)
        )

    async def ensure(self, wanted: Manifest, *, dry_run: bool = False) -> Manifest:
        """Have the object as it is wanted.

        Args:
            wanted: The object.
            dry_run: Only ask the API server whether it would take it.

        Raises:
            Refused: An object of this name is somebody else's, or the API server rejects it.
            Retry: The object is on its way out.
        """
        manifest = stamped(wanted)
        key, mark = key_of(manifest), annotations_of(manifest)[ANNOTATION_APPLIED]
        observed = self._store.get(*key)
        if observed is None:
            observed = await self.create(manifest, dry_run=dry_run)
            if dry_run:
                return observed
        self._check(key, observed, manifest)
        if observed["metadata"].get("deletionTimestamp"):
            raise Retry(f"{key} is being deleted")
        if not self.differs(observed, manifest):
            return observed
        metadata = {**manifest["metadata"], "uid": uid_of(observed)}
        try:
            # also for a rehearsal, which would else find fields that the apply takes out
            await self._own_by_apply(key, manifest)
            applied = await self._kube.apply({**manifest, "metadata": metadata}, dry_run=dry_run)
        except KubeError as error:
            if error.invalid:
                raise Rejected(str(key), error.message) from error
            if error.not_found or error.status == 409:
                raise Retry(f"{key} was replaced while it was applied") from error
            raise
        if dry_run:
            return applied
        self._store.put(applied)
        self._settled[key] = (mark, fingerprint(self._store.get(*key) or applied))
        return applied

    def differs(self, observed: Manifest, manifest: Manifest) -> bool:
        """Whether a child is other than its stamped manifest, so that it is applied."""
        mark = annotations_of(manifest)[ANNOTATION_APPLIED]
        return annotations_of(observed).get(ANNOTATION_APPLIED) != mark or not (
            self._settled.get(key_of(manifest)) == (mark, fingerprint(observed))
            or contains(observed, kept(manifest))
        )

    async def _own_by_apply(self, key: Key, manifest: Manifest) -> None:
        """Turn our ownership of the fields that we created into one by apply.

        Fields of a POST are owned by an Update; an apply that leaves one of them out would not
        remove it. Source: client-go's csaupgrade, which does the same for kubectl.
        """
        live = await self._kube.get(*key)
        if key.kind == "Deployment" and "replicas" not in manifest["spec"]:
            live = await self._hand_over_replicas(live)
        fields = live["metadata"].get("managedFields") or []
        mine = [f for f in fields if f.get("manager") == MANAGER and "subresource" not in f]
        if any(f["operation"] == "Apply" for f in mine) or not mine:
            return
        turned = [f | {"operation": "Apply"} if f in mine else f for f in fields]
        version = live["metadata"]["resourceVersion"]
        patch = {"metadata": {"managedFields": turned, "resourceVersion": version}}
        await self._kube.merge(*key, patch)

    async def _hand_over_replicas(self, live: Manifest) -> Manifest:
        """Leave the number of pods as it is to whoever scales from now on.

        An apply that gives up a field of ours alone removes it, and the API server's default of 1
        would end all pods but one. Source: "Transferring ownership between managers" in
        Kubernetes' documentation of server-side apply.
        """
        if not _owns_replicas(live):
            return live
        metadata, replicas = live["metadata"], live["spec"].get("replicas")
        names = ("name", "namespace", "uid", "resourceVersion")
        only = {
            "apiVersion": live["apiVersion"],
            "kind": live["kind"],
            # with its resourceVersion: another number in the meantime is a conflict
            "metadata": {name: metadata[name] for name in names},
            "spec": {"replicas": replicas},
        }
        return await self._kube.apply(only, manager=_HANDS_OVER)

    async def delete(self, obj: Manifest) -> None:
        """Delete this very object."""
        await self._kube.delete(obj)
        self._settled.pop(key_of(obj), None)

    @staticmethod
    def _check(key: Key, observed: Manifest, wanted: Manifest) -> None:
        if not ours(observed, wanted):
            raise Refused(
                "Conflict",
                f"{key.kind} {key.name} in namespace {key.namespace} exists and is not "
                "ragtenancy's; it is left as it is. Rename or delete it, or choose another name",
            )
