"""What a tenant leaves behind, who may take it over, and who learns nothing by trying."""

from typing import Any

import aiohttp
import pytest
from redis.asyncio import Redis

from ragtenancy_api.wiring import cache_keys, tenant_key
from ragtenancy_operator.kube import Kube
from ragtenancy_operator.store import Manifest
from tests.integration.operator.life import binding_of, gone, load, objects, search
from tests.integration.operator.test_operator import writes
from tests.integration.operator.test_tenants import ask, key_of, ready, reason
from tests.integration.operator.world import (
    HOME,
    World,
    condition,
    namespace_manifest,
    tenant,
    until,
)

TEXT = "what the old tenant knew"


async def retained(
    world: World, api: Kube, team: str, name: str = "acme", **spec: Any
) -> tuple[Manifest, str]:
    """A tenant that had a document and is gone, with its Released binding's name."""
    await api.create(tenant(team, name, deletionPolicy="Retain", **spec))
    made = await ready(api, team, name)
    await load(world, await key_of(api, team, f"{name}-default-rag"), "d", TEXT)
    await api.delete(made)
    await gone(api, made)
    uid = made["metadata"]["uid"]
    await until(lambda: is_released(api, uid))
    return made, uid


async def is_released(api: Kube, uid: str) -> bool:
    """the binding is Released"""
    found = await api.find("RAGBinding", HOME, uid)
    return found is not None and found.get("status", {}).get("phase") == "Released"


async def is_gone(api: Kube, uid: str) -> bool:
    """the binding is gone"""
    return await api.find("RAGBinding", HOME, uid) is None


async def kept(world: World, placement: dict[str, Any]) -> list[int | None]:
    """Objects at a place of a tenant's own: documents and chunks."""
    names = (placement["documents"], placement["chunks"])
    return [await objects(world, name, placement["tenant"]) for name in names]


@pytest.mark.parametrize("isolation", ["Shard", "Collection", "Filter"])
async def test_what_is_retained_is_taken_over_and_goes_with_the_new_tenant(
    world: World, api: Kube, team: str, isolation: str
) -> None:
    old, uid = await retained(world, api, team, isolation=isolation)
    left = await binding_of(api, old)
    assert (left["keys"], left["deletionPolicy"]) == ([], "Retain")
    assert await api.find("Secret", team, "acme-default-rag") is None
    await api.merge("RAGBinding", HOME, uid, {"status": {"documents": 1}}, "status")
    async with Redis.from_url(world.cache.url) as cache:
        await cache.hset(tenant_key(uid, "exact"), "x", "1")
        new = await api.create(
            tenant(team, "acme", isolation=isolation, restoreFrom={"binding": uid})
        )
        await ready(api, team, "acme")
        key = await key_of(api, team, "acme-default-rag")
        assert await search(world, key, "old tenant knew") == [TEXT]
        await until(lambda: is_gone(api, uid))
        assert await cache.exists(*cache_keys(uid)) == 0
    assert (await binding_of(api, new))["placement"] == left["placement"]
    # still there, although the old binding was released
    assert await search(world, key, "old tenant knew") == [TEXT]

    async def counted() -> bool:
        """the document count came along"""
        found = await api.get("RAGTenant", team, "acme")
        return bool(found["status"].get("documents") == 1)

    await until(counted)
    await load(world, key, "more", "what the new one adds")
    await api.delete(await api.get("RAGTenant", team, "acme"))
    await until(lambda: is_gone(api, new["metadata"]["uid"]))
    if isolation != "Filter":
        assert await kept(world, left["placement"]) == [None, None]
    else:
        await nothing_of(world, left["placement"])


async def nothing_of(world: World, placement: dict[str, Any]) -> None:
    """No object of an owner is left in the shared tenant."""
    headers = {"Authorization": f"Bearer {world.weaviate.api_key}"}
    where = f'where:{{path:["owner"],operator:Equal,valueText:"{placement["owner"]}"}}'
    for name in (placement["documents"], placement["chunks"]):
        chosen = f'{name}(tenant:"{placement["tenant"]}",{where})'
        query = {"query": f"{{Aggregate{{{chosen}{{meta{{count}}}}}}}}"}
        url = f"{world.weaviate.url}/v1/graphql"
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, json=query, headers=headers) as answer,
        ):
            data = (await answer.json())["data"]["Aggregate"][name]
        assert data[0]["meta"]["count"] == 0


async def test_a_released_binding_that_is_deleted_empties_the_stores(
    world: World, api: Kube, team: str
) -> None:
    old, uid = await retained(world, api, team)
    place = (await binding_of(api, old))["placement"]
    assert await kept(world, place) == [1, 1]
    await api.delete(await api.get("RAGBinding", HOME, uid))
    await until(lambda: is_gone(api, uid))
    assert await kept(world, place) == [None, None]


@pytest.mark.parametrize("forced", [False, True])
async def test_retain_holds_when_the_operator_was_down(
    world: World, api: Kube, team: str, forced: bool
) -> None:
    await api.create(tenant(team, "acme", deletionPolicy="Retain"))
    made = await ready(api, team, "acme")
    key = await key_of(api, team, "acme-default-rag")
    await load(world, key, "d", TEXT)
    place = (await binding_of(api, made))["placement"]
    world.operator.kill()
    await api.delete(made)
    if forced:
        await api.merge("RAGTenant", team, "acme", {"metadata": {"finalizers": None}})
    world.operator.start()
    await gone(api, made)
    uid = made["metadata"]["uid"]
    await until(lambda: is_released(api, uid))
    assert await kept(world, place) == [1, 1]
    assert await ask(world, key) == 401


async def test_a_policy_that_was_changed_before_the_end_counts(
    world: World, api: Kube, team: str
) -> None:
    await api.create(tenant(team, "acme", deletionPolicy="Retain"))
    made = await ready(api, team, "acme")
    world.operator.kill()
    await api.merge("RAGTenant", team, "acme", {"spec": {"deletionPolicy": "Delete"}})
    await api.delete(made)
    world.operator.start()
    await gone(api, made)
    await until(lambda: is_gone(api, made["metadata"]["uid"]))


async def test_from_a_hostile_namespace_nothing_is_taken_and_nothing_learned(
    world: World, api: Kube, team: str
) -> None:
    old, uid = await retained(world, api, team)
    await api.create(tenant(team, "busy"))
    busy = await ready(api, team, "busy")
    hostile = f"{team}-hostile"
    await api.create(namespace_manifest(hostile))
    unknown = "00000000-0000-4000-8000-000000000000"
    messages = set()
    for number, target in enumerate((uid, busy["metadata"]["uid"], unknown)):
        # also of the very name that the old tenant had
        name = "acme" if number == 0 else f"acme{number}"
        made = await api.create(tenant(hostile, name, restoreFrom={"binding": target}))
        said = await reason(api, made, "Accepted", "RestoreRefused")
        messages.add(said["message"].replace(target, "BINDING").replace(name, "NAME"))
        assert await api.find("RAGBinding", HOME, made["metadata"]["uid"]) is None
    assert len(messages) == 1
    assert team not in messages.pop().replace(hostile, "")
    left = await binding_of(api, old)
    assert "claimedBy" not in left
    # the platform decides: it writes the new owner into the binding
    owner = {"tenantRef": {"namespace": hostile, "name": "acme"}}
    await api.merge("RAGBinding", HOME, uid, {"spec": owner})
    await ready(api, hostile, "acme")
    key = await key_of(api, hostile, "acme-default-rag")
    assert await search(world, key, "old tenant knew") == [TEXT]
    await until(lambda: is_gone(api, uid))


async def test_what_cannot_be_taken_over_is_said_with_its_own_reason(
    world: World, api: Kube, team: str
) -> None:
    _, uid = await retained(world, api, team)
    made = await api.create(tenant(team, "acme", isolation="Filter", restoreFrom={"binding": uid}))
    said = await reason(api, made, "Accepted", "RestoreIsolation")
    assert "spec.isolation" in said["message"]
    await api.delete(made)
    await gone(api, made)
    other = "11111111-0000-4000-8000-000000000000"
    await api.merge("RAGBinding", HOME, uid, {"spec": {"claimedBy": other}})
    # a claimant that is not there holds nothing up
    await api.create(tenant(team, "acme", restoreFrom={"binding": uid}))
    await ready(api, team, "acme")


@pytest.mark.parametrize("after", [1, 2, 3, 4, 5, 6, 8])
async def test_killed_while_it_takes_over_it_loses_nothing_and_ends_with_one_binding(
    world: World, api: Kube, team: str, after: int
) -> None:
    _, uid = await retained(world, api, team)
    start = await writes(world.kube)
    new = await api.create(tenant(team, "acme", restoreFrom={"binding": uid}))

    async def written() -> bool:
        """the operator has written enough"""
        return await writes(world.kube) - start - 1 >= after

    await until(written)
    world.operator.kill()
    world.operator.start()
    await ready(api, team, "acme", 30)
    await until(lambda: is_gone(api, uid))
    key = await key_of(api, team, "acme-default-rag")
    assert await search(world, key, "old tenant knew") == [TEXT]
    found = await api.get("RAGTenant", team, "acme")
    assert condition(found, "Accepted")["status"] == "True"
    assert found["metadata"]["uid"] == new["metadata"]["uid"]


async def test_deleted_before_it_took_over_it_leaves_all_for_the_next(
    world: World, api: Kube, team: str
) -> None:
    """The moment between the claim and the new binding, made by hand."""
    _, uid = await retained(world, api, team)
    world.operator.kill()
    first = await api.create(tenant(team, "acme", restoreFrom={"binding": uid}))
    claim = {"spec": {"claimedBy": first["metadata"]["uid"]}}
    await api.merge("RAGBinding", HOME, uid, claim)
    await api.delete(first)
    await gone(api, first)
    second = await api.create(tenant(team, "acme", restoreFrom={"binding": uid}))
    world.operator.start()
    await ready(api, team, "acme")
    key = await key_of(api, team, "acme-default-rag")
    assert await search(world, key, "old tenant knew") == [TEXT]
    assert (await binding_of(api, second))["placement"]["tenant"] == uid
