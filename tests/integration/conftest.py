"""Fixtures: real servers, started when the first test asks for them."""

from collections.abc import Callable, Iterator

import pytest

from tests.integration.servers import (
    CACHE_OPTIONS,
    STATE_OPTIONS,
    KubeServer,
    RedisServer,
    WeaviateServer,
)


@pytest.fixture(scope="session")
def kube(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeServer]:
    """A kube-apiserver with etcd, shared by the tests of a run: use a namespace per test."""
    server = KubeServer.start(tmp_path_factory.mktemp("kube"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def redis_server(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[..., RedisServer]]:
    """Starts a Redis of the test's own: `redis_server("--maxmemory", "1mb")`."""
    started: list[RedisServer] = []

    def start(*options: str) -> RedisServer:
        started.append(RedisServer.start(tmp_path_factory.mktemp("redis"), *options))
        return started[-1]

    yield start
    for server in started:
        server.stop()


@pytest.fixture(scope="session")
def state_redis(redis_server: Callable[..., RedisServer]) -> RedisServer:
    """A Redis that keeps what it is told (AOF, no eviction), shared: use a prefix per test."""
    return redis_server(*STATE_OPTIONS)


@pytest.fixture(scope="session")
def cache_redis(redis_server: Callable[..., RedisServer]) -> RedisServer:
    """A Redis that may forget (no persistence, LRU), shared: use a prefix per test."""
    return redis_server(*CACHE_OPTIONS)


@pytest.fixture(scope="session")
def weaviate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WeaviateServer]:
    """A Weaviate with API key auth, shared by the tests of a run: use a collection per test."""
    server = WeaviateServer.start(tmp_path_factory.mktemp("weaviate"))
    yield server
    server.stop()
