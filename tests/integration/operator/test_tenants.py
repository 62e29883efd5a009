"""A tenant's life, against a real API server, Weaviate, Redis and API."""

import asyncio
import base64
import json
import subprocess
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
from redis.asyncio import Redis

from ragtenancy_api.wiring import cache_keys, state_keys, tenant_key, tombstone_key
from ragtenancy_operator.kube import Kube
from ragtenancy_operator.names import collections
from ragtenancy_operator.store import Manifest
from tests.integration.operator.world import (
    HOME,
    World,
    condition,
    deployment,
    namespace_manifest,
    tenant,
    until,
)


async def ready(api: Kube, namespace: str, name: str, seconds: float = 15) -> Manifest:
    """The tenant, once it is Ready."""
    seen: dict[str, Manifest] = {}

    async def check() -> bool:
        """RAGTenant is Ready"""
        seen["it"] = await api.get("RAGTenant", namespace, name)
        now = condition(seen["it"], "Ready")
        current = now.get("observedGeneration") == seen["it"]["metadata"]["generation"]
        return bool(current and now["status"] == "True")

    await until(check, seconds)
    return seen["it"]


async def reason(api: Kube, obj: Manifest, kind: str, wanted: str) -> dict[str, Any]:
    """A condition of an object, once it has this reason."""
    metadata = obj["metadata"]
    seen: dict[str, Any] = {}

    async def check() -> bool:
        found = await api.get(obj["kind"], metadata["namespace"], metadata["name"])
        seen.clear()
        seen.update(condition(found, kind))
        return seen.get("reason") == wanted

    check.__doc__ = f"{kind} has reason {wanted}"
    await until(check)
    return seen


async def key_of(api: Kube, namespace: str, secret: str) -> str:
    """The API key in a Secret."""
    data = (await api.get("Secret", namespace, secret))["data"]
    return base64.b64decode(data["OPENAI_API_KEY"]).decode()


async def ask(world: World, key: str) -> int:
    """HTTP status of a request with a key."""
    headers = {"Authorization": f"Bearer {key}"}
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{world.api}/v1/models", headers=headers) as answer,
    ):
        return answer.status


async def weaviate_tenants(world: World, collection: str) -> set[str]:
    """Tenants of a collection, asked of Weaviate itself."""
    headers = {"Authorization": f"Bearer {world.weaviate.api_key}"}
    url = f"{world.weaviate.url}/v1/schema/{collection}/tenants"
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
        return {entry["name"] for entry in await answer.json()}


async def test_ready_means_that_the_key_works_now(world: World, api: Kube, team: str) -> None:
    await api.create(tenant(team, "acme"))
    made = await ready(api, team, "acme")
    assert await ask(world, await key_of(api, team, "acme-default-rag")) == 200
    assert made["status"]["uid"] == made["metadata"]["uid"]
    assert made["status"]["apiKeys"][0]["secretName"] == "acme-default-rag"


async def test_no_key_stands_anywhere_but_in_its_secret(world: World, api: Kube, team: str) -> None:
    await api.create(tenant(team, "acme"))
    made = await ready(api, team, "acme")
    key = await key_of(api, team, "acme-default-rag")
    binding = await api.get("RAGBinding", HOME, made["metadata"]["uid"])
    assert key not in json.dumps([made, binding])
    assert world.operator.process is not None
    assert key not in world.operator.process.log.read_text()


async def test_a_second_key_is_issued_and_a_removed_one_is_revoked(
    world: World, api: Kube, team: str
) -> None:
    keys = [{"name": "default"}, {"name": "ci", "secretName": "ci-key"}]
    await api.create(tenant(team, "acme", apiKeys=keys))
    await ready(api, team, "acme")
    default, ci = await key_of(api, team, "acme-default-rag"), await key_of(api, team, "ci-key")
    assert default != ci
    await api.merge("RAGTenant", team, "acme", {"spec": {"apiKeys": keys[:1]}})
    await ready(api, team, "acme")
    assert await ask(world, ci) == 401
    assert await ask(world, default) == 200
    assert await api.find("Secret", team, "ci-key") is None


@pytest.mark.parametrize("damage", ["deleted", "edited"])
async def test_a_key_secret_damaged_by_hand_means_a_new_key(
    world: World, api: Kube, team: str, damage: str
) -> None:
    await api.create(tenant(team, "acme"))
    await ready(api, team, "acme")
    old = await key_of(api, team, "acme-default-rag")
    if damage == "deleted":
        await api.delete(await api.get("Secret", team, "acme-default-rag"))
    else:
        forged = base64.b64encode(b"rtk_forged").decode()
        await api.merge("Secret", team, "acme-default-rag", {"data": {"OPENAI_API_KEY": forged}})

    async def replaced() -> bool:
        """the Secret holds a new key"""
        secret = await api.find("Secret", team, "acme-default-rag")
        held = base64.b64decode(secret["data"]["OPENAI_API_KEY"]).decode() if secret else old
        return held not in (old, "rtk_forged")

    await until(replaced, 5)
    await ready(api, team, "acme")
    new = await key_of(api, team, "acme-default-rag")

    async def revoked() -> bool:
        """the old key is refused and the new one is taken"""
        return (await ask(world, old), await ask(world, new)) == (401, 200)

    await until(revoked, 5)
    assert await ask(world, "rtk_forged") == 401


async def test_a_deleted_tenant_is_gone_from_every_store(
    world: World, api: Kube, team: str
) -> None:
    await api.create(tenant(team, "acme"))
    made = await ready(api, team, "acme")
    uid, key = made["metadata"]["uid"], await key_of(api, team, "acme-default-rag")
    home = await api.get("RAGDeployment", HOME, "main")
    documents, chunks = collections(home["metadata"]["uid"])
    assert uid in await weaviate_tenants(world, documents)
    async with Redis.from_url(world.state.url) as state, Redis.from_url(world.cache.url) as cache:
        for redis, name in ((state, "usage"), (cache, "exact")):
            await redis.hset(tenant_key(uid, name), "x", "1")
        await api.delete(made)

        async def gone() -> bool:
            """the tenant and its binding are gone"""
            return not (
                await api.find("RAGTenant", team, "acme") or await api.find("RAGBinding", HOME, uid)
            )

        await until(gone)
        assert await state.exists(*state_keys(uid)) == 0
        assert await cache.exists(*cache_keys(uid)) == 0
        assert await state.exists(tombstone_key(uid)) == 1
    assert uid not in await weaviate_tenants(world, documents)
    assert uid not in await weaviate_tenants(world, chunks)
    assert await api.find("Secret", team, "acme-default-rag") is None
    assert await ask(world, key) == 401


async def test_the_deployment_counts_the_tenants_that_there_are(
    world: World,
    api: Kube,
    team: str,
    kubectl: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    """Also right after a deletion, whose own reply comes after the watch's last event."""
    for name in ("a", "b", "c"):
        await api.create(tenant(team, name))
    for name in ("a", "b", "c"):
        await api.delete(await ready(api, team, name))
    fields = f"spec.deploymentRef.name=main,spec.deploymentRef.namespace={HOME}"

    async def counted() -> bool:
        """status.tenants.total is the number of tenants"""
        found = kubectl("get", "ragtenants", "-A", f"--field-selector={fields}", "-o", "name")
        status = (await api.get("RAGDeployment", HOME, "main"))["status"]
        return bool(status["tenants"]["total"] == len(found.stdout.split()))

    await until(counted, 10)


async def test_a_recreated_tenant_is_another(world: World, api: Kube, team: str) -> None:
    await api.create(tenant(team, "acme"))
    first = await ready(api, team, "acme")
    old = await key_of(api, team, "acme-default-rag")
    await api.delete(first)

    async def gone() -> bool:
        """the tenant is gone"""
        return await api.find("RAGTenant", team, "acme") is None

    await until(gone)
    await api.create(tenant(team, "acme"))
    second = await ready(api, team, "acme")
    assert second["status"]["uid"] != first["status"]["uid"]
    assert await key_of(api, team, "acme-default-rag") != old
    assert await ask(world, old) == 401


async def test_a_deployment_that_is_not_there_is_said_and_waited_for(
    world: World, api: Kube, team: str
) -> None:
    made = await api.create(tenant(team, "early", team))
    said = await reason(api, made, "Ready", "DeploymentNotFound")
    assert f"{team}/main does not exist" in said["message"]
    await api.create(world.external_secret(team))
    await api.create(deployment(team, world.spec()))
    said = await reason(api, made, "Ready", "DeploymentNotReady")
    assert "RAGDeployment main" in said["message"]
    assert condition(await api.get("RAGTenant", team, "early"), "Accepted")["status"] == "True"


async def test_a_namespace_is_let_in_by_its_labels(world: World, api: Kube, team: str) -> None:
    home = f"{team}-home"
    await api.create(namespace_manifest(home))
    await api.create(world.external_secret(home))
    selector = {"from": "Selector", "selector": {"matchLabels": {"rag": "yes"}}}
    await api.create(deployment(home, world.spec(tenants={"allowedNamespaces": selector})))
    made = await api.create(tenant(team, "guest", home))
    said = await reason(api, made, "Ready", "NamespaceNotAllowed")
    assert team in said["message"]
    await api.merge("Namespace", "", team, {"metadata": {"labels": {"rag": "yes"}}})
    await reason(api, made, "Accepted", "Accepted")


async def test_a_secret_that_is_not_ours_is_left_alone(world: World, api: Kube, team: str) -> None:
    foreign = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "acme-default-rag", "namespace": team},
        "stringData": {"OPENAI_API_KEY": "theirs"},
    }
    before = await api.create(foreign)
    made = await api.create(tenant(team, "acme"))
    said = await reason(api, made, "Accepted", "Conflict")
    assert "acme-default-rag" in said["message"]
    after = await api.get("Secret", team, "acme-default-rag")
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
    # it recovers by itself when the name is free
    await api.delete(after)
    await ready(api, team, "acme")


async def test_what_an_owner_writes_into_the_status_changes_nothing(
    world: World, api: Kube, team: str
) -> None:
    await api.create(tenant(team, "victim"))
    await api.create(tenant(team, "thief"))
    victim, thief = await ready(api, team, "victim"), await ready(api, team, "thief")
    bindings = [
        await api.get("RAGBinding", HOME, each["metadata"]["uid"]) for each in (victim, thief)
    ]
    stolen = {"status": {**victim["status"], "conditions": []}}
    await api.merge("RAGTenant", team, "thief", stolen, "status")

    async def mended() -> bool:
        """the status is the tenant's own again"""
        found = await api.get("RAGTenant", team, "thief")
        own = found["status"]["uid"] == thief["metadata"]["uid"]
        return bool(own and found["status"]["apiKeys"] == thief["status"]["apiKeys"])

    await until(mended, 5)
    after = [await api.get("RAGBinding", HOME, each["metadata"]["uid"]) for each in (victim, thief)]
    assert [b["spec"] for b in after] == [b["spec"] for b in bindings]


async def test_a_quota_reaches_the_binding_at_once(world: World, api: Kube, team: str) -> None:
    await api.create(tenant(team, "acme"))
    made = await ready(api, team, "acme")
    patch = {"spec": {"quotas": {"requestsPerMinute": 7}}}
    await api.merge("RAGTenant", team, "acme", patch)

    async def bound() -> bool:
        """the binding has the quota"""
        binding = await api.get("RAGBinding", HOME, made["metadata"]["uid"])
        return bool(binding["spec"]["settings"]["quotas"] == {"requestsPerMinute": 7})

    await until(bound, 5)
    await api.merge("RAGTenant", team, "acme", {"spec": {"quotas": None}})

    async def unbound() -> bool:
        """the quota is gone from the binding"""
        binding = await api.get("RAGBinding", HOME, made["metadata"]["uid"])
        return bool(binding["spec"]["settings"]["quotas"] == {})

    await until(unbound, 5)


async def test_a_binding_damaged_by_hand_is_mended(world: World, api: Kube, team: str) -> None:
    await api.create(tenant(team, "acme"))
    made = await ready(api, team, "acme")
    uid = made["metadata"]["uid"]
    before = await api.get("RAGBinding", HOME, uid)
    await api.merge("RAGBinding", HOME, uid, {"spec": {"keys": []}})

    async def mended() -> bool:
        """the keys are back"""
        binding = await api.get("RAGBinding", HOME, uid)
        return bool(binding["spec"]["keys"] == before["spec"]["keys"])

    await until(mended, 5)


async def test_many_tenants_at_once_each_get_their_own(world: World, api: Kube, team: str) -> None:
    names = [f"t{number}" for number in range(30)]
    await asyncio.gather(*(api.create(tenant(team, name)) for name in names))
    made = await asyncio.gather(*(ready(api, team, name, 30) for name in names))
    keys = await asyncio.gather(*(key_of(api, team, f"{name}-default-rag") for name in names))
    assert len(set(keys)) == len({each["status"]["uid"] for each in made}) == len(names)
    assert await asyncio.gather(*(ask(world, key) for key in keys)) == [200] * len(names)
