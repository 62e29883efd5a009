"""Which reconciles an event about an object wakes."""

from collections.abc import Iterator

from ragtenancy_operator.names import (
    LABEL_COMPONENT,
    LABEL_DEPLOYMENT,
    LABEL_TENANT,
    LABEL_TENANT_UID,
    Component,
)
from ragtenancy_operator.served import pod_ready
from ragtenancy_operator.store import Key, Manifest, Store, holds, key_of, labels_of, uid_of


def wakes(store: Store, obj: Manifest) -> Iterator[Key]:
    """The keys to reconcile when this object was created, changed or deleted."""
    kind, labels = obj["kind"], labels_of(obj)
    namespace = obj["metadata"].get("namespace", "")
    if kind in ("RAGDeployment", "RAGTenant"):
        yield key_of(obj)
        if kind == "RAGTenant" and store.get(*key_of(obj)) is None:
            # its binding may be retained: nothing else tells that the tenant is gone
            yield Key("RAGBinding", obj["spec"]["deploymentRef"]["namespace"], uid_of(obj))
    elif kind == "RAGBinding":
        yield key_of(obj)
        reference = obj["spec"]["tenantRef"]
        yield Key("RAGTenant", reference["namespace"], reference["name"])
    elif kind == "Namespace":
        for tenant in store.tenants_in(obj["metadata"]["name"]):
            yield key_of(tenant)
    elif kind == "StorageClass":
        for deployment in store.of_kind("RAGDeployment"):
            yield key_of(deployment)
    elif LABEL_TENANT_UID in labels and LABEL_TENANT in labels:
        yield Key("RAGTenant", namespace, labels[LABEL_TENANT])
    elif name := labels.get(LABEL_DEPLOYMENT):
        yield Key("RAGDeployment", namespace, name)
        if kind == "Pod" and labels.get(LABEL_COMPONENT) == Component.API and pod_ready(obj):
            for tenant in store.tenants_of(namespace, name):
                if not holds(tenant, "Ready"):
                    yield key_of(tenant)
