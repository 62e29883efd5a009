"""`cold_request`: what a tenant's first request costs more because its shard sleeps.

A pod over a real Weaviate and Redis, on this machine, with a model server that answers at once.
Each tenant has a document and is put to sleep; then it is asked by `POST /v1/search` once cold and
several times hot, one request at a time. The documents are the same size for all.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import aiohttp

from benchmarks._quickstart import report, say
from ragtenancy_api.stores import Collection
from ragtenancy_operator.weaviate import Weaviate
from tests.fakes.manifests import CHUNKS, DOCUMENTS, binding_manifest, key_of, uid_of
from tests.fakes.openai import FakeOpenAI
from tests.integration.runtime.world import Pod, environment, write_tenants
from tests.integration.servers import CACHE_OPTIONS, STATE_OPTIONS, RedisServer, WeaviateServer

TENANTS, HOT, AT_ONCE = 100, 3, 10
TEXT = "\n\n".join(f"Paragraph {at} says that {at * at} is a square." for at in range(40))


async def _prepare(weaviate: WeaviateServer, names: list[str]) -> None:
    async with aiohttp.ClientSession() as http:
        operator = Weaviate(http, weaviate.url, weaviate.api_key)
        await operator.ensure_collections(DOCUMENTS, CHUNKS, Collection())
        for collection in (DOCUMENTS, CHUNKS):
            await operator.create_tenants(collection, [uid_of(name) for name in names])


async def _post(
    http: aiohttp.ClientSession, pod: Pod, name: str, path: str, body: dict[str, object]
) -> float:
    """Milliseconds of one request."""
    headers = {"authorization": f"Bearer {key_of(name)}"}
    started = time.perf_counter()
    async with http.post(f"{pod.url}{path}", json=body, headers=headers) as response:
        text = await response.text()
        if response.status >= 300:
            raise RuntimeError(f"{path} of {name} failed: {text}")
    return (time.perf_counter() - started) * 1000


async def _measure(pod: Pod, weaviate: WeaviateServer, names: list[str]) -> dict[str, float]:
    query: dict[str, object] = {"query": "which is a square"}
    limit = asyncio.Semaphore(AT_ONCE)
    async with aiohttp.ClientSession() as http:

        async def load(name: str) -> None:
            async with limit:
                await _post(http, pod, name, "/v1/documents", {"id": "doc", "text": TEXT})

        await asyncio.gather(*(load(name) for name in names))
        say(f"{len(names)} tenants have a document")
        operator = Weaviate(http, weaviate.url, weaviate.api_key)
        for collection in (DOCUMENTS, CHUNKS):
            await operator.deactivate(collection, [uid_of(name) for name in names])
        cold, hot = [], []
        for name in names:
            cold.append(await _post(http, pod, name, "/v1/search", query))
            again = [await _post(http, pod, name, "/v1/search", query) for _ in range(HOT)]
            hot.append(statistics.median(again))
    return {
        "hot_p50_ms": round(statistics.median(hot), 1),
        "cold_p50_ms": round(statistics.median(cold), 1),
        "added_p50_ms": round(statistics.median(a - b for a, b in zip(cold, hot, strict=True)), 1),
        "requests": len(cold),
    }


def measure() -> dict[str, float]:
    """Start the servers, load the tenants and time each."""
    names = [f"t{number}" for number in range(TENANTS)]
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        state = RedisServer.start(home / "state", *STATE_OPTIONS)
        stack.callback(state.stop)
        cache = RedisServer.start(home / "cache", *CACHE_OPTIONS)
        stack.callback(cache.stop)
        weaviate = WeaviateServer.start(home / "weaviate")
        stack.callback(weaviate.stop)
        upstream = FakeOpenAI().start()
        stack.callback(upstream.stop)
        asyncio.run(_prepare(weaviate, names))
        write_tenants(home / "tenants", upstream, *(binding_manifest(name) for name in names))
        variables = environment(home, state, cache, weaviate, upstream)
        pod = Pod.start(home / "pod", variables, "--tenants", str(home / "tenants"))
        stack.callback(pod.process.stop)
        return asyncio.run(_measure(pod, weaviate, names))


if __name__ == "__main__":
    sys.exit(report(measure))
