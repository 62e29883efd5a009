"""How many pods there are and where: who has the replicas, budgets, and settings that are wrong."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from ragtenancy_operator.kube import Kube
from ragtenancy_operator.store import Manifest
from tests.integration.operator.test_tenants import reason
from tests.integration.operator.world import World, condition, deployment, until

CPU = {"requests": {"cpu": "100m"}}
BAD: dict[str, Any] = {"nodeAffinity": {"requiredDuringScheduling": {"nodeSelectorTerms": []}}}


async def made(api: Kube, world: World, team: str, /, **changes: Any) -> Manifest:
    """A RAGDeployment in the test's namespace, and its API's Deployment."""
    await api.create(world.external_secret(team))
    created = await api.create(deployment(team, world.spec(**changes)))
    await until(lambda: api.find("Deployment", team, "main-api"))
    return created


async def changed(api: Kube, team: str, /, **settings: Any) -> None:
    """Change settings of the API."""
    await api.merge("RAGDeployment", team, "main", {"spec": {"api": settings}})


async def comes(api: Kube, kind: str, team: str, name: str) -> Manifest:
    return await until(lambda: api.find(kind, team, name), 10)


async def goes(api: Kube, kind: str, team: str, name: str) -> None:
    async def gone() -> bool:
        return await api.find(kind, team, name) is None

    gone.__doc__ = f"{kind} {name} is gone"
    await until(gone, 10)


async def has_variable(api: Kube, team: str, value: str) -> None:
    """Wait until the API's pods are to be started with MARK=value: what was before is applied."""

    async def there() -> bool:
        found = await api.get("Deployment", team, "main-api")
        (container,) = found["spec"]["template"]["spec"]["containers"]
        return {"name": "MARK", "value": value} in container["env"]

    there.__doc__ = f"MARK is {value}"
    await until(there, 10)


async def replicas(api: Kube, team: str) -> int:
    found = await api.get("Deployment", team, "main-api")
    return int(found["spec"]["replicas"])


@contextlib.asynccontextmanager
async def replicas_seen(world: World, team: str) -> AsyncIterator[list[int]]:
    """Every number of replicas that the Deployment has had meanwhile, by a watch."""
    process = await asyncio.create_subprocess_exec(
        *("kubectl", "--kubeconfig", str(world.kube.kubeconfig), "--namespace", team),
        *(
            "get",
            "deployment",
            "main-api",
            "--watch",
            "--output",
            'jsonpath={.spec.replicas}{"\\n"}',
        ),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    seen = [int(await process.stdout.readline())]
    yield seen
    process.terminate()
    seen += map(int, (await process.stdout.read()).split())
    await process.wait()


async def test_an_autoscaler_takes_the_replicas_as_they_are(
    world: World, api: Kube, team: str
) -> None:
    await made(api, world, team, api={"replicas": 4, "resources": CPU})
    assert await replicas(api, team) == 4
    async with replicas_seen(world, team) as seen:
        scaling = {"minReplicas": 2, "maxReplicas": 8}
        env = [{"name": "MARK", "value": "scaled"}]
        await changed(api, team, replicas=None, autoscaling=scaling, env=env)
        scaler = await comes(api, "HorizontalPodAutoscaler", team, "main-api")
        await has_variable(api, team, "scaled")
        # as the autoscaler would
        await api.merge("Deployment", team, "main-api", {"spec": {"replicas": 6}}, "scale")
        await changed(api, team, env=[{"name": "MARK", "value": "again"}])
        await has_variable(api, team, "again")
        assert await replicas(api, team) == 6
    assert set(seen) == {4, 6}
    assert scaler["spec"]["maxReplicas"] == 8

    await changed(api, team, autoscaling=None, replicas=3)
    await goes(api, "HorizontalPodAutoscaler", team, "main-api")
    assert await replicas(api, team) == 3


async def test_replicas_that_were_created_by_us_are_handed_over_too(
    world: World, api: Kube, team: str
) -> None:
    """Fields of a POST are owned by an Update until the next write makes them an apply's."""
    await made(api, world, team, api={"replicas": 5, "resources": CPU})
    found = await api.get("Deployment", team, "main-api")
    owners = {entry["operation"] for entry in found["metadata"]["managedFields"]}
    assert owners == {"Update"}
    await changed(api, team, replicas=None, autoscaling={"maxReplicas": 9})
    await comes(api, "HorizontalPodAutoscaler", team, "main-api")

    async def ours_no_more() -> bool:
        """the Deployment is applied without replicas"""
        live = await api.get("Deployment", team, "main-api")
        return any(
            entry["operation"] == "Apply" and entry["manager"] == "ragtenancy"
            for entry in live["metadata"]["managedFields"]
        )

    await until(ours_no_more, 10)
    assert await replicas(api, team) == 5


async def test_one_pod_has_no_disruption_budget(world: World, api: Kube, team: str) -> None:
    await made(api, world, team, api={"replicas": 2})
    budget = await comes(api, "PodDisruptionBudget", team, "main-api")
    assert budget["spec"]["maxUnavailable"] == 1
    await changed(api, team, replicas=1)
    await goes(api, "PodDisruptionBudget", team, "main-api")


async def test_a_malformed_setting_is_named_and_nothing_is_half_done(
    world: World, api: Kube, team: str
) -> None:
    created = await made(api, world, team, api={"replicas": 2}, state={"redis": {"managed": {}}})
    await comes(api, "PodDisruptionBudget", team, "main-api")
    before = await api.get("Deployment", team, "main-api")
    await changed(api, team, affinity=BAD, replicas=1, ingress={"host": "rag.example.com"})
    said = await reason(api, created, "APIReady", "Rejected")
    field = "spec.api.affinity.nodeAffinity.requiredDuringScheduling: "
    assert said["message"].startswith(field)
    found = await api.get("RAGDeployment", team, "main")
    assert condition(found, "Stalled")["reason"] == "Rejected"
    assert condition(found, "StateReady")["reason"] != "Rejected"
    after = await api.get("Deployment", team, "main-api")
    assert (after["metadata"]["generation"], after["spec"]) == (1, before["spec"])
    assert await api.find("Ingress", team, "main-api") is None
    assert await api.find("PodDisruptionBudget", team, "main-api") is not None
    # it recovers by itself
    await changed(api, team, affinity=None)
    await comes(api, "Ingress", team, "main-api")
    await goes(api, "PodDisruptionBudget", team, "main-api")
    await no_longer_rejected(api, team)


async def no_longer_rejected(api: Kube, team: str) -> None:
    async def fine() -> bool:
        """nothing stalls"""
        return not condition(await api.get("RAGDeployment", team, "main"), "Stalled")

    await until(fine, 10)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"affinity": BAD}, "affinity.nodeAffinity.requiredDuringScheduling"),
        ({"extraVolumes": [{"name": "x", "emptyDirectory": {}}]}, "extraVolumes[0].emptyDirectory"),
        (
            {"extraVolumeMounts": [{"name": "nowhere", "mountPath": "/x"}]},
            "extraVolumeMounts[0].name",
        ),
        (
            {"topologySpreadConstraints": [{"maxSkew": 0, "topologyKey": "zone"}]},
            "topologySpreadConstraints[0].",
        ),
    ],
)
async def test_a_component_of_which_one_object_is_refused_is_not_begun(
    world: World, api: Kube, team: str, settings: dict[str, Any], field: str
) -> None:
    await api.create(world.external_secret(team))
    managed = {"redis": {"managed": settings}}
    created = await api.create(deployment(team, world.spec(state=managed)))
    said = await reason(api, created, "StateReady", "Rejected")
    assert said["message"].startswith(f"spec.state.redis.managed.{field}")
    assert await api.find("Service", team, "main-state") is None
    assert await api.find("NetworkPolicy", team, "main-state") is None
    # the others are
    assert await comes(api, "Deployment", team, "main-api")
