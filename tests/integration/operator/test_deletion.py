"""A RAGDeployment's end: refused under its tenants, or in order with all they had."""

import asyncio
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import aiohttp
import pytest
import yaml
from redis.asyncio import Redis

from ragtenancy_api.wiring import tenant_key
from ragtenancy_operator.kube import Kube
from ragtenancy_operator.names import collections
from ragtenancy_operator.store import Manifest
from tests.integration.operator.test_tenants import reason
from tests.integration.operator.world import (
    World,
    condition,
    deployment,
    rendered,
    tenant,
    until,
)


@pytest.fixture
def policy(
    world: World, kubectl: Callable[..., subprocess.CompletedProcess[str]]
) -> Iterator[None]:
    """The chart's admission policy."""
    objects = yaml.safe_dump_all(rendered("--show-only=templates/admission-policy.yaml"))
    applied = kubectl("apply", "--filename=-", stdin=objects)
    assert applied.returncode == 0, applied.stderr
    yield
    assert kubectl("delete", "--filename=-", stdin=objects).returncode == 0


async def served(world: World, api: Kube, team: str, **spec: Any) -> tuple[Manifest, Manifest]:
    """A RAGDeployment that says it is Ready, and a tenant of it with a binding."""
    await api.create(world.external_secret(team))
    await api.create(deployment(team, world.spec(**spec)))
    await until(lambda: api.find("Deployment", team, "main-api"), 10)
    await world.mark_available(api, team, "main-api")

    async def ready() -> Manifest | None:
        """RAGDeployment is Ready"""
        found = await api.get("RAGDeployment", team, "main")
        return found if condition(found, "Ready").get("status") == "True" else None

    made = await until(ready, 20)
    member = await api.create(tenant(team, "acme", home=team))
    await until(lambda: api.find("RAGBinding", team, member["metadata"]["uid"]), 20)

    async def counted() -> bool:
        """the tenant is counted"""
        found = await api.get("RAGDeployment", team, "main")
        return bool(found["status"]["tenants"]["total"] == 1)

    await until(counted, 20)
    return made, member


async def waits_for(api: Kube, team: str, text: str) -> None:
    async def says() -> bool:
        found = await api.get("RAGDeployment", team, "main")
        ready = condition(found, "Ready")
        return ready.get("reason") == "Deleting" and text in ready["message"]

    says.__doc__ = f"the deletion says: {text}"
    await until(says)


async def classes(world: World) -> set[str]:
    headers = {"authorization": f"Bearer {world.weaviate.api_key}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.get(f"{world.weaviate.url}/v1/schema") as got,
    ):
        return {each["class"] for each in (await got.json())["classes"]}


async def test_a_deletion_under_tenants_is_refused_and_says_what_to_do(
    world: World,
    api: Kube,
    team: str,
    policy: None,
    kubectl: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    made, _ = await served(world, api, team)

    async def refused() -> str:
        """the deletion is denied"""
        words = ("delete", "ragdeployment", "main", f"--namespace={team}", "--dry-run=server")
        done = await asyncio.to_thread(kubectl, *words)
        return done.stderr if done.returncode else ""

    said = await until(refused, 20)  # a policy takes a moment to be in force
    assert "still has tenants (1)" in said
    assert "deletionPolicy to Cascade" in said
    await api.merge("RAGDeployment", team, "main", {"spec": {"deletionPolicy": "Cascade"}})
    await api.delete(made)  # KubeError otherwise


@pytest.mark.parametrize("killed", [False, True])
async def test_cascade_ends_traffic_then_empties_the_stores_then_ends_the_rest(
    world: World, api: Kube, team: str, killed: bool
) -> None:
    made, member = await served(world, api, team, deletionPolicy="Cascade")
    uid = member["metadata"]["uid"]
    async with Redis.from_url(world.state.url) as redis:
        await redis.set(tenant_key(uid, "epoch"), "1")
    held = await api.get("Deployment", team, "main-api")
    labels = held["spec"]["template"]["metadata"]["labels"]
    pod = await api.create(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "main-api-0", "namespace": team, "labels": labels},
            "spec": {"containers": [{"name": "api", "image": "none"}]},
        }
    )
    await api.delete(made)
    await waits_for(api, team, "API pod main-api-0")
    assert await api.find("Deployment", team, "main-api") is None
    # somebody may still be answered: nothing of the tenant is taken away
    assert await api.find("RAGBinding", team, uid) is not None
    assert set(collections(made["metadata"]["uid"])) <= await classes(world)
    if killed:
        world.operator.kill()
        await api.delete(pod)
        await asyncio.to_thread(world.operator.start)
    else:
        await api.delete(pod)

    async def gone() -> bool:
        """the deployment is gone"""
        return await api.find("RAGDeployment", team, "main") is None

    await until(gone, 30)
    assert await api.find("RAGBinding", team, uid) is None
    assert not set(collections(made["metadata"]["uid"])) & await classes(world)
    async with Redis.from_url(world.state.url) as redis:
        assert await redis.get(tenant_key(uid, "epoch")) is None
        assert await redis.get(tenant_key(uid, "gone")) is not None
    await reason(api, member, "Accepted", "DeploymentNotFound")


async def test_without_the_policy_a_deletion_waits_for_tenants_or_cascade(
    world: World, api: Kube, team: str
) -> None:
    made, member = await served(world, api, team)
    await api.delete(made)
    await waits_for(api, team, "1 tenants have documents here")
    assert await api.find("RAGBinding", team, member["metadata"]["uid"]) is not None
    await api.merge("RAGDeployment", team, "main", {"spec": {"deletionPolicy": "Cascade"}})

    async def gone() -> bool:
        """the deployment is gone"""
        return await api.find("RAGDeployment", team, "main") is None

    await until(gone, 30)
