"""A tenant that was put to sleep is woken by its next request, and nobody is told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from uuid import uuid4

import aiohttp
from redis.asyncio import Redis

from ragtenancy_api.wiring import USED, USED_SECONDS, tenant_key, tombstone_key
from ragtenancy_operator.errors import Retry
from ragtenancy_operator.weaviate import Weaviate
from tests.fakes.manifests import CHUNKS, DOCUMENTS, uid_of
from tests.fakes.openai import FakeOpenAI
from tests.integration.runtime.conftest import auth
from tests.integration.runtime.test_answers import ask, chat, put, search
from tests.integration.runtime.world import Pod, environment
from tests.integration.servers import RedisServer, WeaviateServer


@asynccontextmanager
async def put_to_sleep_again_and_again(
    http: aiohttp.ClientSession, weaviate: WeaviateServer, tenant: str, pause: float
) -> AsyncIterator[None]:
    """Put a tenant to sleep every so often, for the length of a block."""

    operator = Weaviate(http, weaviate.url, weaviate.api_key)

    async def loop() -> None:
        while True:
            for collection in (CHUNKS, DOCUMENTS):
                # Weaviate refuses while a query is in it; the operator then tries again.
                with suppress(Retry):
                    await operator.deactivate(collection, [tenant])
            await asyncio.sleep(pause)

    task = asyncio.create_task(loop())
    try:
        yield
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_no_question_fails_while_its_tenant_is_put_to_sleep(
    pod: Pod, http: aiohttp.ClientSession, upstream: FakeOpenAI, weaviate: WeaviateServer
) -> None:
    name = f"sleepy-{uuid4()}"
    await put(http, pod, "beta", id=name, text="The dormouse sleeps in the teapot.")

    async def searching(mode: str) -> None:
        for _ in range(40):
            found = await search(http, pod, "beta", "dormouse teapot", mode=mode, top_k=100)
            assert name in {entry["document_id"] for entry in found}

    async def asking() -> None:
        for at in range(20):
            answer, response = await chat(http, pod, "beta", ask(f"Dormouse? {at} {uuid4()}"))
            assert response.status == 200, answer

    async with put_to_sleep_again_and_again(http, weaviate, uid_of("beta"), 0.05):
        await asyncio.gather(
            searching("Hybrid"), searching("Vector"), searching("Keyword"), asking()
        )


async def test_no_write_fails_while_its_tenant_is_put_to_sleep(
    pod: Pod, http: aiohttp.ClientSession, upstream: FakeOpenAI, weaviate: WeaviateServer
) -> None:
    async def writing() -> None:
        for at in range(5):
            name = f"nap-{at}-{uuid4()}"
            await put(http, pod, "beta", id=name, text=f"Nap {at} is {uuid4()}.")
            url = f"{pod.url}/v1/documents/{name}"
            async with http.get(url, headers=auth("beta")) as response:
                assert response.status == 200, await response.text()
            async with http.delete(url, headers=auth("beta")) as response:
                assert response.status == 200, await response.text()

    # New vectors are indexed about once a second, while the shard is awake.
    async with put_to_sleep_again_and_again(http, weaviate, uid_of("beta"), 0.3):
        await asyncio.gather(writing(), writing())


async def test_a_use_is_noted_before_the_shard_is_touched_and_seldom(
    home: Path,
    pods: list[Pod],
    tmp_path: Path,
    state_redis: RedisServer,
    cache_redis: RedisServer,
    weaviate: WeaviateServer,
    upstream: FakeOpenAI,
    http: aiohttp.ClientSession,
) -> None:
    variables = environment(tmp_path, state_redis, cache_redis, weaviate, upstream)
    pod = Pod.start(tmp_path / "pod", variables, "--tenants", str(home / "tenants"))
    try:
        async with Redis.from_url(state_redis.url) as redis:
            used = {name: tenant_key(uid_of(name), USED) for name in ("alpha", "plain", "left")}
            await redis.delete(*used.values())

            _, response = await chat(http, pod, "plain", ask("hi"))
            assert response.status == 200
            assert await redis.get(used["plain"]) is None, "no retrieval, no use"

            await chat(http, pod, "alpha", ask(f"What is there? {uuid4()}"))
            noted = await redis.get(used["alpha"])
            server = (await redis.time())[0]
            assert noted is not None and 0 <= server - int(noted) < USED_SECONDS
            await redis.set(used["alpha"], "1")
            await search(http, pod, "alpha", "what is there")
            assert await redis.get(used["alpha"]) == b"1", "noted already"

            await redis.set(tombstone_key(uid_of("left")), "1")
            try:
                body = {"query": "x"}
                url = f"{pod.url}/v1/search"
                async with http.post(url, json=body, headers=auth("left")) as response:
                    assert response.status == 401
                assert await redis.get(used["left"]) is None, "a removed tenant does not come back"
            finally:
                await redis.delete(tombstone_key(uid_of("left")))
    finally:
        pod.process.stop()
