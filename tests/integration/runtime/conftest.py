"""A pod over real stores, shared by the tests; and tools to talk to it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from ragtenancy_api.stores import Collection
from ragtenancy_api.wiring import SHARED_TENANT
from ragtenancy_operator.weaviate import Weaviate
from tests.fakes.manifests import CHUNKS, DOCUMENTS, binding_manifest, key_of, uid_of
from tests.fakes.openai import FakeOpenAI
from tests.integration.runtime.world import Pod, environment, write_tenants
from tests.integration.servers import RedisServer, WeaviateServer

TENANTS: dict[str, dict[str, Any]] = {
    "alpha": {"retrieval": {"mode": "Hybrid"}, "generation": {"systemPrompt": "Be brief."}},
    "beta": {},
    "plain": {"retrieval": {"mode": "None"}, "cache": {"exact": {"enabled": False}}},
    "rated": {
        "quotas": {"requestsPerMinute": 1, "burst": 20},
        "retrieval": {"mode": "None"},
        "cache": {"exact": {"enabled": False}},
    },
    "tokens": {
        "quotas": {"tokensPerMinute": 2000},
        "retrieval": {"mode": "None"},
        "cache": {"exact": {"enabled": False}},
    },
    "narrow": {
        "quotas": {"concurrentRequests": 3},
        "retrieval": {"mode": "None"},
        "cache": {"exact": {"enabled": False}},
    },
    "cached": {"quotas": {"tokensPerMinute": 1000}, "retrieval": {"mode": "None"}},
}

OWNERS = {"left": uid_of("left"), "right": uid_of("right"), "heir": uid_of("deceased")}
"""Tenants that share one shard, and whose objects are theirs: the heir took another's over."""


@pytest.fixture(scope="session")
def fake_openai() -> Iterator[FakeOpenAI]:
    """The model server of all pods."""
    fake = FakeOpenAI().start()
    yield fake
    fake.stop()


@pytest.fixture
def upstream(fake_openai: FakeOpenAI) -> FakeOpenAI:
    """The model server, as new."""
    fake_openai.reset()
    return fake_openai


async def make_collections(weaviate: WeaviateServer) -> None:
    """What the operator makes before it binds a tenant."""
    async with aiohttp.ClientSession() as session:
        operator = Weaviate(session, weaviate.url, weaviate.api_key)
        await operator.ensure_collections(DOCUMENTS, CHUNKS, Collection())
        names = [SHARED_TENANT, *(uid_of(name) for name in TENANTS)]
        for collection in (DOCUMENTS, CHUNKS):
            await operator.create_tenants(collection, names)


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the pods' files lie."""
    return tmp_path_factory.mktemp("runtime")


@pytest.fixture(scope="session")
def pods(
    home: Path,
    state_redis: RedisServer,
    cache_redis: RedisServer,
    weaviate: WeaviateServer,
    fake_openai: FakeOpenAI,
) -> Iterator[list[Pod]]:
    """Two pods of one deployment."""
    import asyncio

    asyncio.run(make_collections(weaviate))
    bindings = [binding_manifest(name, **settings) for name, settings in TENANTS.items()]
    bindings += [binding_manifest(name, owner) for name, owner in OWNERS.items()]
    write_tenants(home / "tenants", fake_openai, *bindings)
    variables = environment(home, state_redis, cache_redis, weaviate, fake_openai)
    started = [
        Pod.start(home / f"pod-{at}", variables, "--tenants", str(home / "tenants"))
        for at in range(2)
    ]
    yield started
    for pod in started:
        pod.process.stop()


@pytest.fixture
def pod(pods: list[Pod]) -> Pod:
    """One pod."""
    return pods[0]


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """A client with a bound on every wait."""
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        yield session


def auth(name: str) -> dict[str, str]:
    """The header that authenticates a tenant of the tests."""
    return {"authorization": f"Bearer {key_of(name)}"}
