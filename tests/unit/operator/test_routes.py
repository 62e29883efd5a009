"""Which reconciles an event wakes."""

from typing import Any

import pytest

from ragtenancy_operator.routes import wakes
from ragtenancy_operator.store import Key, Store
from tests.unit.builders import obj

READY = [{"type": "Ready", "status": "True"}]
REFERENCE = {"deploymentRef": {"namespace": "rag", "name": "main"}}
CHILD = {"ragtenancy.io/deployment": "main"}


@pytest.mark.parametrize(
    ("thing", "keys"),
    [
        (obj("RAGDeployment", "main"), [("RAGDeployment", "rag", "main")]),
        (
            obj("RAGTenant", "gone", namespace="team", uid="u", spec=REFERENCE),
            [("RAGTenant", "team", "gone"), ("RAGBinding", "rag", "u")],
        ),
        (
            obj(
                "RAGBinding",
                "uid",
                labels=CHILD,
                spec={"tenantRef": {"namespace": "team", "name": "t"}},
            ),
            [("RAGBinding", "rag", "uid"), ("RAGTenant", "team", "t")],
        ),
        (obj("Service", "s", labels=CHILD), [("RAGDeployment", "rag", "main")]),
        (
            obj(
                "Secret",
                "s",
                namespace="team",
                labels={"ragtenancy.io/tenant": "t", "ragtenancy.io/tenant-uid": "u"},
            ),
            [("RAGTenant", "team", "t")],
        ),
        (obj("Service", "stranger"), []),
    ],
)
def test_an_event_wakes_its_owners(thing: dict[str, Any], keys: list[tuple[str, str, str]]) -> None:
    assert list(wakes(Store(), thing)) == [Key(*key) for key in keys]


def test_a_namespaces_labels_concern_its_tenants() -> None:
    store = Store()
    store.put(obj("RAGTenant", "t", namespace="team", spec=REFERENCE))
    namespace = obj("Namespace", "team", namespace="")
    assert list(wakes(store, namespace)) == [Key("RAGTenant", "team", "t")]


def test_a_ready_api_pod_wakes_the_tenants_that_wait() -> None:
    store = Store()
    store.put(obj("RAGTenant", "waits", namespace="team", spec=REFERENCE))
    ready = {"conditions": READY}
    store.put(obj("RAGTenant", "served", namespace="team", spec=REFERENCE, status=ready))
    labels = {**CHILD, "app.kubernetes.io/component": "api"}
    pod = obj("Pod", "p", labels=labels, status={"conditions": READY})
    woken = list(wakes(store, pod))
    assert woken == [Key("RAGDeployment", "rag", "main"), Key("RAGTenant", "team", "waits")]
