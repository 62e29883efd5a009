"""The operator's memory of objects."""

import base64

from ragtenancy_operator.store import Store, sha256_of
from tests.unit.builders import obj


def test_an_older_event_changes_nothing() -> None:
    store = Store()
    assert store.put(obj("Service", "a", version=5, spec={"new": True}))
    assert not store.put(obj("Service", "a", version=4, spec={"new": False}))
    assert store.get("Service", "rag", "a") == obj("Service", "a", version=5, spec={"new": True})


def test_a_late_deletion_of_a_former_object_leaves_the_younger_one() -> None:
    store = Store()
    store.put(obj("Service", "a", version=9, uid="young"))
    assert not store.remove(obj("Service", "a", version=7, uid="old"))
    assert store.get("Service", "rag", "a") is not None


def test_a_late_reply_does_not_bring_a_deleted_object_back() -> None:
    """The reply to the patch that takes the last finalizer off, after the event of the end."""
    store = Store()
    store.put(obj("RAGTenant", "a", version=5))
    store.remove(obj("RAGTenant", "a", version=7))
    assert not store.put(obj("RAGTenant", "a", version=6))
    assert store.get("RAGTenant", "rag", "a") is None
    assert store.put(obj("RAGTenant", "a", version=9, uid="made anew"))


def test_secrets_are_kept_as_hashes() -> None:
    store = Store()
    value = base64.b64encode(b"secret").decode()
    store.put(obj("Secret", "a", data={"k": value}))
    held = store.get("Secret", "rag", "a")
    assert held is not None
    assert held["data"] == {"k": sha256_of(value)}
    assert value not in str(held)


def test_managed_fields_are_dropped() -> None:
    store = Store()
    thing = obj("Service", "a")
    thing["metadata"]["managedFields"] = [{"manager": "x"}]
    store.put(thing)
    held = store.get("Service", "rag", "a")
    assert held is not None
    assert "managedFields" not in held["metadata"]


def test_groups_follow_an_object_that_changes() -> None:
    store = Store()
    label = "ragtenancy.io/deployment"
    store.put(obj("Service", "a", version=1, labels={label: "main"}))
    store.put(obj("Service", "a", version=2, labels={label: "other"}))
    assert list(store.of_deployment("rag", "main")) == []
    assert [o["metadata"]["name"] for o in store.of_deployment("rag", "other")] == ["a"]


def test_tenants_are_found_by_what_they_point_to() -> None:
    store = Store()
    reference = {"deploymentRef": {"namespace": "rag", "name": "main"}}
    store.put(obj("RAGTenant", "acme", namespace="team", spec=reference))
    assert [t["metadata"]["name"] for t in store.tenants_of("rag", "main")] == ["acme"]
    assert [t["metadata"]["name"] for t in store.tenants_in("team")] == ["acme"]
    store.remove(obj("RAGTenant", "acme", namespace="team", spec=reference))
    assert list(store.tenants_of("rag", "main")) == []
    assert len(store) == 0


def test_bindings_are_found_by_their_keys_and_by_their_place() -> None:
    place = {"documents": "D", "chunks": "C", "tenant": "t"}
    store = Store()
    for name, owner in (("a", None), ("b", "b")):
        spec = {
            "keys": [{"sha256": name}],
            "placement": place | ({"owner": owner} if owner else {}),
        }
        store.put(obj("RAGBinding", name, spec=spec))
    assert [b["metadata"]["name"] for b in store.bindings_with("a")] == ["a"]
    assert [b["metadata"]["name"] for b in store.bindings_at(place)] == ["a"]
    assert [b["metadata"]["name"] for b in store.bindings_at(place | {"owner": "b"})] == ["b"]
    store.put(obj("RAGBinding", "a", 2, spec={"keys": [], "placement": place}))
    assert list(store.bindings_with("a")) == []
