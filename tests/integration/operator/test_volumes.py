"""Volumes grow, live; and what keeps one from growing, or from being, is said."""

import uuid
from typing import Any

import pytest

from ragtenancy_operator.kube import Kube
from ragtenancy_operator.store import Manifest
from tests.integration.operator.test_tenants import reason
from tests.integration.operator.world import World, condition, deployment, until


async def storage_class(api: Kube, *, expandable: bool) -> str:
    name = f"class-{uuid.uuid4().hex[:8]}"
    await api.create(
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": name},
            "provisioner": "example.com/none",
            "allowVolumeExpansion": expandable,
        }
    )
    return name


def state(size: str, name: str, **more: Any) -> dict[str, Any]:
    storage = {"size": size, "storageClassName": name, **more}
    return {"redis": {"managed": {"storage": storage}}}


async def bound(api: Kube, namespace: str, capacity: str) -> Manifest:
    """Make the claim of the state Redis's pod, as its controller does, and bind it."""
    workload = await until(lambda: api.find("StatefulSet", namespace, "main-state"), 10)
    (template,) = workload["spec"]["volumeClaimTemplates"]
    labels = workload["spec"]["selector"]["matchLabels"] | template["metadata"].get("labels", {})
    metadata = {"name": "data-main-state-0", "namespace": namespace, "labels": labels}
    await api.create(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": metadata,
            "spec": {k: v for k, v in template["spec"].items() if k != "volumeMode"},
        }
    )
    status = {"phase": "Bound", "capacity": {"storage": capacity}}
    where = ("PersistentVolumeClaim", namespace, "data-main-state-0")
    return await api.merge(*where, {"status": status}, "status")


async def serves(api: Kube, namespace: str) -> None:
    """Say of the state Redis's StatefulSet what its controller would."""
    where = ("StatefulSet", namespace, "main-state")
    held = await api.get(*where)
    status = {
        "observedGeneration": held["metadata"]["generation"],
        "replicas": 1,
        "readyReplicas": 1,
    }
    await api.merge(*where, {"status": status}, "status")


async def test_a_volume_grows_while_its_component_serves(
    world: World, api: Kube, team: str
) -> None:
    await api.create(world.external_secret(team))
    name = await storage_class(api, expandable=True)
    made = await api.create(deployment(team, world.spec(state=state("1Gi", name))))
    await bound(api, team, "1Gi")
    await serves(api, team)
    await reason(api, made, "StateReady", "Ready")
    patch = {"spec": {"state": {"redis": {"managed": {"storage": {"size": "2Gi"}}}}}}
    await api.merge("RAGDeployment", team, "main", patch)
    said = await reason(api, made, "StateReady", "Resizing")
    assert said["status"] == "True"
    assert "data-main-state-0 grows to 2Gi" in said["message"]
    claim = await api.get("PersistentVolumeClaim", team, "data-main-state-0")
    assert claim["spec"]["resources"]["requests"]["storage"] == "2Gi"
    # the set's template cannot change, and was not tried
    workload = await api.get("StatefulSet", team, "main-state")
    template = workload["spec"]["volumeClaimTemplates"][0]
    assert template["spec"]["resources"]["requests"]["storage"] == "1Gi"
    status = {"status": {"capacity": {"storage": "2Gi"}}}
    await api.merge("PersistentVolumeClaim", team, "data-main-state-0", status, "status")
    await reason(api, made, "StateReady", "Ready")


async def test_a_class_that_cannot_grow_is_said_and_the_component_serves_on(
    world: World, api: Kube, team: str
) -> None:
    await api.create(world.external_secret(team))
    name = await storage_class(api, expandable=False)
    made = await api.create(deployment(team, world.spec(state=state("1Gi", name))))
    await bound(api, team, "1Gi")
    await serves(api, team)
    await reason(api, made, "StateReady", "Ready")
    patch = {"spec": {"state": {"redis": {"managed": {"storage": {"size": "2Gi"}}}}}}
    await api.merge("RAGDeployment", team, "main", patch)
    said = await reason(api, made, "Stalled", "VolumeNotExpandable")
    assert "spec.state.redis.managed.storage.size" in said["message"]
    assert f"StorageClass {name}" in said["message"]
    found = await api.get("RAGDeployment", team, "main")
    assert condition(found, "StateReady")["status"] == "True"
    claim = await api.get("PersistentVolumeClaim", team, "data-main-state-0")
    assert claim["spec"]["resources"]["requests"]["storage"] == "1Gi"


async def test_a_class_that_is_not_there_is_named_until_it_is(
    world: World, api: Kube, team: str
) -> None:
    await api.create(world.external_secret(team))
    name = f"late-{uuid.uuid4().hex[:8]}"
    made = await api.create(deployment(team, world.spec(state=state("1Gi", name))))
    said = await reason(api, made, "StateReady", "StorageClassNotFound")
    assert "spec.state.redis.managed.storage.storageClassName" in said["message"]
    assert condition(await api.get("RAGDeployment", team, "main"), "CacheReady")["status"] == "True"
    await api.create(
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": name},
            "provisioner": "example.com/none",
        }
    )
    await reason(api, made, "StateReady", "Starting")


@pytest.mark.parametrize("retain", [False, True])
async def test_volumes_stay_or_go_with_the_deployment_as_it_says_now(
    world: World, api: Kube, team: str, retain: bool
) -> None:
    await api.create(world.external_secret(team))
    name = await storage_class(api, expandable=True)
    first = state("1Gi", name, retain=not retain)
    await api.create(deployment(team, world.spec(state=first)))
    await until(lambda: api.find("StatefulSet", team, "main-state"), 10)
    patch = {"spec": {"state": {"redis": {"managed": {"storage": {"retain": retain}}}}}}
    await api.merge("RAGDeployment", team, "main", patch)

    async def changed() -> bool:
        """the set's policy says what the spec says"""
        held = await api.get("StatefulSet", team, "main-state")
        policy = held["spec"]["persistentVolumeClaimRetentionPolicy"]
        return bool(policy["whenDeleted"] == ("Retain" if retain else "Delete"))

    await until(changed, 10)
