"""How tenants' documents are kept apart, what the platform lets a tenant have, and suspension."""

import asyncio
import time
from typing import Any

import aiohttp
import pytest
from redis.asyncio import Redis

from ragtenancy_api.wiring import SHARED_TENANT, tenant_key
from ragtenancy_operator.kube import Kube
from ragtenancy_operator.names import collections
from ragtenancy_operator.store import Manifest
from tests.fakes.openai import DIMENSIONS
from tests.integration.operator.life import (
    binding_of,
    call,
    load,
    objects,
    platform,
    ready_reason,
    search,
)
from tests.integration.operator.test_tenants import ask, key_of, ready, reason, weaviate_tenants
from tests.integration.operator.world import HOME, World, condition, tenant, until


async def bound(api: Kube, made: Manifest, quotas: dict[str, int]) -> None:
    """Wait until the binding has these quotas."""

    async def check() -> bool:
        return bool((await binding_of(api, made))["settings"]["quotas"] == quotas)

    check.__doc__ = f"the binding's quotas are {quotas}"
    await until(check)


async def released(api: Kube, made: Manifest) -> None:
    """Wait until the binding is gone: every store has confirmed."""

    async def check() -> bool:
        """the binding is gone"""
        return await api.find("RAGBinding", HOME, made["metadata"]["uid"]) is None

    await until(check)


@pytest.mark.parametrize("isolation", ["Shard", "Collection", "Filter"])
async def test_two_tenants_of_a_kind_never_see_each_others_documents(
    world: World, api: Kube, team: str, isolation: str
) -> None:
    made, keys = {}, {}
    for name in ("red", "blue"):
        await api.create(tenant(team, name, isolation=isolation))
        made[name] = await ready(api, team, name)
        keys[name] = await key_of(api, team, f"{name}-default-rag")
        await load(world, keys[name], "same-id", f"the {name} secret of the house")
    for name, key in keys.items():
        assert await search(world, key, "secret house") == [f"the {name} secret of the house"]
    place = {name: (await binding_of(api, each))["placement"] for name, each in made.items()}
    assert {each.get("isolation") for each in place.values()} == {isolation}
    # what one had goes with it, and the other's stays
    await api.delete(made["red"])
    await released(api, made["red"])
    assert await search(world, keys["blue"], "secret house") == ["the blue secret of the house"]
    for which in ("documents", "chunks"):
        count = await objects(world, place["red"][which], place["red"]["tenant"])
        assert count == (1 if isolation == "Filter" else None)


async def test_a_collection_of_its_own_is_indexed_alike_and_goes_with_its_tenant(
    world: World, api: Kube, team: str
) -> None:
    await api.create(tenant(team, "acme", isolation="Collection"))
    made = await ready(api, team, "acme")
    uid = made["metadata"]["uid"]
    home = await api.get("RAGDeployment", HOME, "main")
    for own, shared in zip(collections(uid), collections(home["metadata"]["uid"]), strict=True):
        assert await weaviate_tenants(world, own) == {uid}
        assert uid not in await weaviate_tenants(world, shared)
        schemas = [await weaviate_schema(world, name) for name in (own, shared)]
        for schema in schemas:
            del schema["class"]
        assert schemas[0] == schemas[1]
    await api.delete(made)
    await released(api, made)
    for own in collections(uid):
        assert await weaviate_schema(world, own) == {}


async def weaviate_schema(world: World, collection: str) -> dict[str, Any]:
    """A collection's schema, asked of Weaviate itself; empty when there is none."""
    headers = {"Authorization": f"Bearer {world.weaviate.api_key}"}
    url = f"{world.weaviate.url}/v1/schema/{collection}"
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
        if answer.status == 404:
            return {}
        found: dict[str, Any] = await answer.json()
        return found


async def test_many_in_one_shard_each_have_what_they_loaded(
    world: World, api: Kube, team: str
) -> None:
    names = [f"t{number}" for number in range(6)]
    for name in names:
        await api.create(tenant(team, name, isolation="Filter"))
    made = [await ready(api, team, name, 30) for name in names]
    keys = [await key_of(api, team, f"{name}-default-rag") for name in names]
    for key, name in zip(keys, names, strict=True):
        await load(world, key, "d", f"word number {name}")
    places = [(await binding_of(api, each))["placement"] for each in made]
    assert {place["tenant"] for place in places} == {SHARED_TENANT}
    assert {place["owner"] for place in places} == {each["metadata"]["uid"] for each in made}
    before = await objects(world, places[0]["chunks"], SHARED_TENANT) or 0
    await asyncio.gather(*(api.delete(each) for each in made[:3]))
    for each in made[:3]:
        await released(api, each)
    assert await objects(world, places[0]["chunks"], SHARED_TENANT) == before - 3
    for key, name in zip(keys[3:], names[3:], strict=True):
        assert await search(world, key, "word number") == [f"word number {name}"]


async def test_a_late_write_leaves_nothing_in_the_shared_shard(
    world: World, api: Kube, team: str
) -> None:
    """A writer that has its claim when the tenant is deleted is waited for, and then swept up."""
    await api.create(tenant(team, "acme", isolation="Filter"))
    made = await ready(api, team, "acme")
    uid = made["metadata"]["uid"]
    await load(world, await key_of(api, team, "acme-default-rag"), "d", "early")
    place = (await binding_of(api, made))["placement"]
    before = await objects(world, place["chunks"], SHARED_TENANT) or 0
    async with Redis.from_url(world.state.url) as state:
        claim = f"writer {(time.time() + 60) * 1000:.0f} 0"
        await state.hset(tenant_key(uid, "writing"), "late", claim)
        await api.delete(made)

        async def waits() -> bool:
            """the binding says what it waits for"""
            found = await api.get("RAGBinding", HOME, uid)
            return "being written" in found.get("status", {}).get("message", "")

        await until(waits)
        late = {
            "class": place["chunks"],
            "tenant": SHARED_TENANT,
            "properties": {"owner": uid, "document_id": "late", "version": "1"},
            "vector": [1.0] * DIMENSIONS,
        }
        headers = {"Authorization": f"Bearer {world.weaviate.api_key}"}
        url = f"{world.weaviate.url}/v1/objects"
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, json=late, headers=headers) as answer,
        ):
            assert answer.status == 200, await answer.text()
        assert await objects(world, place["chunks"], SHARED_TENANT) == before + 1
        await state.hdel(tenant_key(uid, "writing"), "late")
    await released(api, made)
    assert await objects(world, place["chunks"], SHARED_TENANT) == before - 1


async def test_what_passes_a_limit_is_refused_with_its_path_and_makes_nothing(
    world: World, api: Kube, team: str
) -> None:
    limits = {"quotas": {"requestsPerMinute": 100}, "isolations": ["Shard"], "maxKeys": 1}
    asked: dict[str, Any] = {
        "quotas": {"requestsPerMinute": 600},
        "isolation": "Filter",
        "apiKeys": [{"name": "a"}, {"name": "b"}],
    }
    async with platform(api, {"tenants": {"limits": limits}}):
        made = await api.create(tenant(team, "greedy", **asked))
        said = await reason(api, made, "Accepted", "LimitExceeded")
        for path in ("spec.quotas.requestsPerMinute: 600", "spec.isolation", "spec.apiKeys"):
            assert path in said["message"]
        assert await ready_reason(api, made) == "LimitExceeded"
        assert await api.find("RAGBinding", HOME, made["metadata"]["uid"]) is None
        assert await api.find("Secret", team, "greedy-a-rag") is None
        # one that is silent has what the limit allows
        silent = await api.create(tenant(team, "silent"))
        await ready(api, team, "silent")
        await bound(api, silent, {"requestsPerMinute": 100})
    await ready(api, team, "greedy")


async def test_a_limit_that_is_lowered_holds_at_once_and_takes_nothing_away(
    world: World, api: Kube, team: str
) -> None:
    both = [{"name": "default"}, {"name": "ci"}]
    await api.create(tenant(team, "acme", quotas={"requestsPerMinute": 600}, apiKeys=both))
    made = await ready(api, team, "acme")
    keys = [await key_of(api, team, f"acme-{name}-rag") for name in ("default", "ci")]
    limits = {"quotas": {"requestsPerMinute": 100}, "isolations": ["Filter"], "maxKeys": 1}
    async with platform(api, {"tenants": {"limits": limits}}):
        await reason(api, made, "Accepted", "LimitExceeded")
        await bound(api, made, {"requestsPerMinute": 100})
        assert [await ask(world, key) for key in keys] == [200, 200]
        # no key beyond the limit is issued any more, and one that is taken out is revoked
        more = {"spec": {"apiKeys": [both[0], {"name": "third"}]}}
        await api.merge("RAGTenant", team, "acme", more)

        async def revoked() -> bool:
            """the key that was taken out is refused"""
            return await ask(world, keys[1]) == 401

        await until(revoked)
        assert await ask(world, keys[0]) == 200
        assert await api.find("Secret", team, "acme-third-rag") is None
    await ready(api, team, "acme")
    await bound(api, made, {"requestsPerMinute": 600})
    assert await ask(world, await key_of(api, team, "acme-third-rag")) == 200


async def test_a_suspended_tenant_is_refused_and_keeps_all_it_has(
    world: World, api: Kube, team: str
) -> None:
    await api.create(tenant(team, "acme"))
    made = await ready(api, team, "acme")
    key = await key_of(api, team, "acme-default-rag")
    await load(world, key, "d", "kept in the dark")
    await api.merge("RAGTenant", team, "acme", {"spec": {"suspended": True}})
    await reason(api, made, "Ready", "Suspended")

    async def refused() -> bool:
        """requests are refused"""
        return await ask(world, key) == 403

    await until(refused)
    found = await api.get("RAGTenant", team, "acme")
    assert condition(found, "Served")["status"] == "True"
    await api.merge("RAGTenant", team, "acme", {"spec": {"suspended": False}})
    await ready(api, team, "acme")
    assert await search(world, key, "dark") == ["kept in the dark"]


async def test_one_that_is_no_longer_let_in_is_shut_for_tokens_too(
    world: World, api: Kube, team: str
) -> None:
    await api.create(tenant(team, "acme"))
    made = await ready(api, team, "acme")
    key = await key_of(api, team, "acme-default-rag")
    async with platform(api, {"tenants": {"allowedNamespaces": {"from": "Same"}}}):
        await reason(api, made, "Accepted", "NamespaceNotAllowed")
        spec = await binding_of(api, made)
        assert (spec["keys"], spec["suspended"]) == ([], True)
        assert (await call(world, key, "GET", "models"))[0] == 401
    await ready(api, team, "acme")
    assert await ask(world, key) == 200
