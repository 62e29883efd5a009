"""What no Kubernetes event tells of, on a RAGDeployment with stores of its own: damage done by hand
to real servers, shards put to sleep, usage and documents counted."""

import asyncio
import json
import re
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from redis.asyncio import Redis

from ragtenancy_api.wiring import SHARED_TENANT, USED, tenant_key
from ragtenancy_operator.keeper.usage import recent_days
from ragtenancy_operator.kube import Kube
from ragtenancy_operator.names import collections
from ragtenancy_operator.store import Manifest
from tests.integration.operator.test_tenants import key_of, ready, reason
from tests.integration.operator.world import (
    World,
    condition,
    deployment,
    namespace_manifest,
    tenant,
    until,
)
from tests.integration.servers import STATE_OPTIONS, RedisServer, WeaviateServer

HOME = "kept"
Kubectl = Callable[..., subprocess.CompletedProcess[str]]


@dataclass
class Stores:
    """A RAGDeployment's own Weaviate and state Redis."""

    weaviate: WeaviateServer
    data: Path
    state: RedisServer
    collections: tuple[str, str]
    uid: str

    async def rest(self, method: str, path: str, body: Any = None) -> Any:
        """One request to Weaviate; its answer."""
        headers = {"Authorization": f"Bearer {self.weaviate.api_key}"}
        url = f"{self.weaviate.url}/v1/{path}"
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, url, json=body, headers=headers) as answer,
        ):
            content = await answer.read()
            assert answer.status < 400, content
            return json.loads(content) if content else None

    async def load(self, uid: str, documents: int = 1, *, shared: bool = False) -> None:
        """Write documents with a chunk each, as the API does, and say that the corpus changed."""
        for number in range(documents):
            for collection in self.collections:
                body = {
                    "class": collection,
                    "tenant": SHARED_TENANT if shared else uid,
                    "properties": {"owner": uid, "document_id": f"d{number}", "version": "1"},
                    "vector": [1.0, 0.0],
                }
                await self.rest("POST", "objects", body)
        async with Redis.from_url(self.state.url) as state:
            await state.set(tenant_key(uid, "epoch"), f"{time.time_ns()}")

    async def count(self, collection: str, uid: str) -> int:
        """Objects of a tenant."""
        query = f'{{Aggregate{{{collection}(tenant:"{uid}"){{meta{{count}}}}}}}}'
        answer = await self.rest("POST", "graphql", {"query": query})
        return int(answer["data"]["Aggregate"][collection][0]["meta"]["count"])

    async def awake(self) -> set[str]:
        """Tenants that are active in any of the collections."""
        return {
            entry["name"]
            for collection in self.collections
            for entry in await self.rest("GET", f"schema/{collection}/tenants")
            if entry["activityStatus"] in ("HOT", "ACTIVE")
        }

    async def use(self, uid: str, ago: float) -> None:
        """Note that a tenant was used so many seconds ago, as the API does, and open its shards."""
        async with Redis.from_url(self.state.url) as state:
            await state.set(tenant_key(uid, USED), f"{time.time() - ago:.0f}")
        for collection in self.collections:
            await self.rest(
                "PUT",
                f"schema/{collection}/tenants",
                [{"name": uid, "activityStatus": "ACTIVE"}],
            )


@pytest.fixture(scope="module")
def stores(
    world: World,
    redis_server: Callable[..., RedisServer],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stores]:
    """The stores of RAGDeployment main in a namespace of its own, which is Ready."""
    home = tmp_path_factory.mktemp("kept")
    weaviate = WeaviateServer.start(home)
    made = Stores(weaviate, home / "data", redis_server(*STATE_OPTIONS), ("", ""), "")
    try:
        asyncio.run(_settle(world, made))
        yield made
    finally:
        weaviate.stop()


async def _settle(world: World, made: Stores) -> None:
    own = World(
        world.kube,
        made.weaviate,
        made.state,
        world.cache,
        world.upstream,
        world.operator,
        world.home,
    )
    async with Kube(world.kube.kubeconfig) as kube:
        await kube.create(namespace_manifest(HOME))
        await kube.create(own.external_secret(HOME))
        created = await kube.create(deployment(HOME, own.spec()))
        made.uid = created["metadata"]["uid"]
        made.collections = collections(made.uid)
        await until(lambda: kube.find("Deployment", HOME, "main-api"))
        await world.mark_available(kube, HOME, "main-api")

        async def ready() -> bool:
            """RAGDeployment kept/main is Ready"""
            found = await kube.find("RAGDeployment", HOME, "main")
            return condition(found, "Ready").get("status") == "True"

        await until(ready, 30)


@pytest.fixture
async def limited(api: Kube, stores: Stores) -> AsyncIterator[Callable[[int], Any]]:
    """Sets maxActiveTenants; it is the default again afterwards."""

    async def limit(number: int | None) -> None:
        patch = {"spec": {"vectorStore": {"maxActiveTenants": number}}}
        await api.merge("RAGDeployment", HOME, "main", patch)

    yield limit
    await limit(None)


async def bound(api: Kube, uid: str) -> Manifest:
    """A tenant's binding."""
    return await api.get("RAGBinding", HOME, uid)


async def placed(api: Kube, team: str, name: str, **spec: Any) -> str:
    """Make a tenant; its uid, once it has its place."""
    made = await api.create(tenant(team, name, HOME, **spec))
    uid = str(made["metadata"]["uid"])

    async def there() -> bool:
        """the tenant has its place"""
        found = await api.get("RAGTenant", team, name)
        return condition(found, "PlacementReady").get("status") == "True"

    await until(there)
    return uid


async def documented(api: Kube, uid: str, number: int) -> None:
    """Wait until a binding says how many documents there are."""

    async def counted() -> bool:
        """the binding has the number of documents"""
        return bool((await bound(api, uid)).get("status", {}).get("documents") == number)

    await until(counted)


async def lost(api: Kube, team: str, name: str) -> dict[str, Any]:
    """PlacementReady of a tenant, once it says that its documents are lost."""
    made = await api.get("RAGTenant", team, name)
    return await reason(api, made, "PlacementReady", "DocumentsLost")


def looks(world: World) -> float:
    """How many times the keeper has looked after the deployment's stores."""
    found = re.search(
        r'^ragtenancy_keeper_pass_seconds_count\{deployment="main",namespace="kept"\} (\S+)',
        world.operator.metrics(),
        re.M,
    )
    return float(found[1]) if found else 0.0


async def looked(world: World, times: int = 3) -> None:
    """Wait until the keeper has looked some times more."""
    before = looks(world)

    async def more() -> bool:
        """the keeper has looked again"""
        return looks(world) >= before + times

    await until(more, 30)


def events(kubectl: Kubectl, namespace: str, reason: str) -> list[str]:
    """Messages of the events with a reason."""
    selector = f"--field-selector=reason={reason}"
    found = kubectl("get", "events", "--namespace", namespace, selector, "--output=json")
    return [event["message"] for event in json.loads(found.stdout)["items"]]


async def test_usage_and_documents_appear_in_the_status(world: World, api: Kube, team: str) -> None:
    await api.create(tenant(team, "acme"))
    made = await ready(api, team, "acme")
    uid, key = made["metadata"]["uid"], await key_of(api, team, "acme-default-rag")
    headers = {"Authorization": f"Bearer {key}"}
    document = {"id": "a", "text": "The harbour opens at nine.", "title": "Harbour"}
    question = {"model": "fake/chat", "messages": [{"role": "user", "content": "When?"}]}
    async with aiohttp.ClientSession(headers=headers) as session:
        for path, body in (("documents", document), ("chat/completions", question)):
            async with session.post(f"{world.api}/v1/{path}", json=body) as answer:
                assert answer.status < 300, await answer.text()

        async def checkpointed() -> bool:
            """the binding has the usage that the API tells, and the document"""
            async with session.get(f"{world.api}/v1/usage") as answer:
                told = (await answer.json())["data"][-1]
            status = (await api.get("RAGBinding", "rag", uid)).get("status", {})
            usage = status.get("usage", {})
            return bool(
                status.get("documents") == 1
                and usage.get("day") == told["date"]
                and usage["requests"] == told["requests"]
                and usage["promptTokens"] == told["prompt_tokens"] > 0
                and usage["completionTokens"] == told["completion_tokens"] > 0
            )

        await until(checkpointed)


async def test_checkpoints_stay_within_five_status_writes_a_second(
    world: World, api: Kube, team: str, stores: Stores, kubectl: Kubectl
) -> None:
    uids = [await placed(api, team, f"t{number}") for number in range(12)]
    pattern = re.compile(
        r'^apiserver_request_total\{(?=[^}]*resource="rag(?:bindings|tenants)")'
        r'(?=[^}]*subresource="status")(?=[^}]*verb="PATCH")[^}]*\} (\d+)',
        re.M,
    )

    def writes() -> int:
        return sum(map(int, pattern.findall(kubectl("get", "--raw", "/metrics").stdout)))

    await looked(world)
    day = recent_days(datetime.now(UTC))[0]
    before, started = writes(), time.monotonic()
    async with Redis.from_url(stores.state.url) as state:
        for uid in uids:
            await state.hset(tenant_key(uid, "usage"), f"{day}:requests", 7)

    async def done() -> bool:
        """every binding has the usage"""
        statuses = [(await bound(api, uid)).get("status", {}) for uid in uids]
        return all(status.get("usage", {}).get("requests") == 7 for status in statuses)

    await until(done, 60)
    written, took = writes() - before, time.monotonic() - started
    assert len(uids) <= written <= 5 * took + 2
    # and nothing more is written when nothing changes
    await looked(world)
    before = writes()
    await looked(world)
    assert writes() == before


async def test_an_idle_tenant_is_put_to_sleep_and_one_in_use_is_not(
    world: World, api: Kube, team: str, stores: Stores
) -> None:
    idle = {"deactivateAfter": "3m"}
    old = await placed(api, team, "old", idle=idle)
    new = await placed(api, team, "new", idle=idle)
    patient = await placed(api, team, "patient")
    await stores.use(new, ago=60)
    await stores.use(patient, ago=600)
    await stores.use(old, ago=600)

    async def asleep() -> bool:
        """the idle tenant sleeps"""
        return old not in await stores.awake()

    await until(asleep)
    await looked(world)
    assert await stores.awake() >= {new, patient}


async def test_beyond_the_limit_the_least_recently_used_sleeps_but_none_in_use(
    world: World, api: Kube, team: str, stores: Stores, limited: Callable[[int], Any]
) -> None:
    uids = [await placed(api, team, f"t{number}") for number in range(5)]
    for number, uid in enumerate(uids):
        await stores.use(uid, ago=200 + 100 * number)
    # what other tests left awake is older than these
    for uid in await stores.awake() - set(uids):
        await stores.use(uid, ago=10_000)
    await limited(2)

    async def two() -> bool:
        """the two that were used last are awake"""
        return await stores.awake() == set(uids[:2])

    await until(two)
    for uid in uids:
        await stores.use(uid, ago=5)
    await looked(world)
    assert await stores.awake() == set(uids)
    assert re.search(
        r'^ragtenancy_active_tenants_beyond_limit\{deployment="main",namespace="kept"\} 3\.0',
        world.operator.metrics(),
        re.M,
    )


@pytest.mark.parametrize("damaged", ["both", "chunks"])
async def test_a_shard_deleted_by_hand_is_made_again_and_its_documents_are_said_to_be_lost(
    world: World, api: Kube, team: str, stores: Stores, kubectl: Kubectl, damaged: str
) -> None:
    uid = await placed(api, team, "acme")
    other = await placed(api, team, "other")
    await stores.load(uid, 2)
    await stores.load(other, 1)
    await documented(api, uid, 2)
    await documented(api, other, 1)
    for collection in stores.collections[0 if damaged == "both" else 1 :]:
        await stores.rest("DELETE", f"schema/{collection}/tenants", [uid])

    found = await lost(api, team, "acme")
    status = (await bound(api, uid))["status"]
    assert status["documents"] == 0
    assert found["status"] == "True"
    assert status["lostAt"] in found["message"]
    for collection in stores.collections:
        assert await stores.count(collection, uid) == 0
    assert len(events(kubectl, team, "DocumentsLost")) == 1

    # nobody else lost anything; documents that are loaded again end it
    assert "lostAt" not in (await bound(api, other))["status"]
    assert await stores.count(stores.collections[0], other) == 1
    await stores.load(uid, 3)

    async def over() -> bool:
        """the loss is over"""
        status = (await bound(api, uid))["status"]
        return (status["documents"], status.get("lostAt")) == (3, None)

    await until(over)

    async def whole() -> bool:
        """the tenant is as any other"""
        found = await api.get("RAGTenant", team, "acme")
        return condition(found, "PlacementReady").get("reason") == "Placed"

    await until(whole)


async def test_collections_of_a_tenants_own_are_made_again_when_they_are_gone(
    api: Kube, team: str, stores: Stores, kubectl: Kubectl
) -> None:
    uid = await placed(api, team, "apart", isolation="Collection")
    own = collections(uid)
    apart = replace(stores, collections=own)
    await apart.load(uid, 2)
    await documented(api, uid, 2)
    await stores.rest("DELETE", f"schema/{own[0]}")
    await lost(api, team, "apart")
    for collection in own:
        assert await apart.count(collection, uid) == 0
    assert len(events(kubectl, team, "DocumentsLost")) == 1


async def test_a_shared_shard_that_is_gone_is_a_loss_of_all_who_had_documents_in_it(
    api: Kube, team: str, stores: Stores, kubectl: Kubectl
) -> None:
    uids = [await placed(api, team, f"tiny{number}", isolation="Filter") for number in range(3)]
    for uid, documents in zip(uids, (1, 2, 0), strict=True):
        await stores.load(uid, documents, shared=True)
        await documented(api, uid, documents)
    assert SHARED_TENANT in await stores.awake()
    for collection in stores.collections:
        await stores.rest("DELETE", f"schema/{collection}/tenants", [SHARED_TENANT])
    for number in range(2):
        await lost(api, team, f"tiny{number}")
    assert "lostAt" not in (await bound(api, uids[2]))["status"]
    assert len(events(kubectl, team, "DocumentsLost")) == 2
    for collection in stores.collections:
        assert await stores.count(collection, SHARED_TENANT) == 0


async def test_a_weaviate_that_lost_its_volume_has_every_tenant_again(
    world: World, api: Kube, team: str, stores: Stores, kubectl: Kubectl
) -> None:
    full, empty = await placed(api, team, "full"), await placed(api, team, "empty")
    await stores.load(full, 2)
    await documented(api, full, 2)
    stores.weaviate.process.kill()
    shutil.rmtree(stores.data)
    stores.weaviate.process.restart()

    async def back() -> bool:
        """both tenants have a place again, and the one with documents says that they are lost"""
        try:
            held = [
                {entry["name"] for entry in await stores.rest("GET", f"schema/{name}/tenants")}
                for name in stores.collections
            ]
        except (AssertionError, aiohttp.ClientError):
            return False
        found = await api.get("RAGTenant", team, "full")
        lost = condition(found, "PlacementReady").get("reason") == "DocumentsLost"
        return lost and all(names >= {full, empty} for names in held)

    await until(back, 60)
    assert "lostAt" not in (await bound(api, empty)).get("status", {})
    assert events(kubectl, HOME, "CollectionsLost")
    assert len(events(kubectl, team, "DocumentsLost")) == 1

    async def summed_up() -> bool:
        """VectorStoreReady holds again, and says that tenants lost documents"""
        found = condition(await api.get("RAGDeployment", HOME, "main"), "VectorStoreReady")
        return found["status"] == "True" and "lost their documents" in found["message"]

    await until(summed_up)


async def test_a_state_redis_that_was_emptied_is_said_and_no_checkpoint_is_lowered(
    world: World, api: Kube, team: str, stores: Stores, kubectl: Kubectl
) -> None:
    uid = await placed(api, team, "acme")
    day = recent_days(datetime.now(UTC))[0]

    async def used(number: int) -> None:
        async with Redis.from_url(stores.state.url) as state:
            await state.hset(
                tenant_key(uid, "usage"),
                mapping={f"{day}:requests": number, f"{day}:prompt": 10 * number},
            )

    async def checkpointed() -> bool:
        """the usage is checkpointed"""
        status = (await bound(api, uid)).get("status", {})
        return bool(status.get("usage", {}).get("requests") == 9)

    await used(9)
    await until(checkpointed)
    await stores.use(uid, ago=3600)
    async with Redis.from_url(stores.state.url) as state:
        await state.flushall()

    async def said() -> bool:
        """StateReady holds, and says since when usage is counted"""
        found = condition(await api.get("RAGDeployment", HOME, "main"), "StateReady")
        return found["status"] == "True" and "found empty at" in found["message"]

    await until(said)
    assert len(events(kubectl, HOME, "StateLost")) == 1
    await used(2)
    await looked(world)
    usage = (await bound(api, uid))["status"]["usage"]
    assert (usage["requests"], usage["promptTokens"]) == (9, 90)
    assert uid in await stores.awake()


async def test_a_deployment_leaves_nothing_in_an_external_redis(
    world: World, api: Kube, team: str
) -> None:
    await api.create(world.external_secret(team))
    made = await api.create(deployment(team, world.spec()))
    async with Redis.from_url(world.state.url) as state:

        async def noted() -> bool:
            """the keeper has left its note"""
            return bool(await state.keys(f"*{made['metadata']['uid']}*"))

        await until(noted)
        await api.delete(made)

        async def gone() -> bool:
            """the deployment is gone"""
            return await api.find("RAGDeployment", team, "main") is None

        await until(gone)
        assert not await state.keys(f"*{made['metadata']['uid']}*")
