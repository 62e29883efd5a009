"""The integration servers are the real ones."""

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
import urllib3
from kubernetes import client, config

from tests.integration.servers import KubeServer, RedisServer, WeaviateServer


def test_a_stopped_kube_apiserver_is_gone(tmp_path: Path) -> None:
    server = KubeServer.start(tmp_path)
    api = client.VersionApi(config.new_client_from_config(str(server.kubeconfig)))
    assert api.get_code().major == "1"
    server.stop()
    with pytest.raises(urllib3.exceptions.MaxRetryError):
        api.get_code()


def test_kube_stores_objects_and_enforces_pod_security(kube: KubeServer) -> None:
    api = client.CoreV1Api(config.new_client_from_config(str(kube.kubeconfig)))
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    metadata = client.V1ObjectMeta(name="servers", labels=labels)
    name = "servers"
    api.create_namespace(client.V1Namespace(metadata=metadata))
    pod = client.V1Pod(
        metadata=client.V1ObjectMeta(name="root"),
        spec=client.V1PodSpec(containers=[client.V1Container(name="c", image="i")]),
    )
    with pytest.raises(client.ApiException, match="violates PodSecurity"):
        api.create_namespaced_pod(name, pod)


def test_redis_has_vector_sets(state_redis: RedisServer) -> None:
    connection: Any = redis.Redis.from_url(state_redis.url)
    connection.execute_command("VADD", "servers:vectors", "VALUES", 2, 1, 0, "east")
    connection.execute_command("VADD", "servers:vectors", "VALUES", 2, 0, 1, "north")
    near = connection.execute_command(
        "VSIM", "servers:vectors", "VALUES", 2, 0.9, 0.1, "COUNT", 1
    )  # fmt: skip
    assert near == [b"east"]


def test_redis_roles_differ_in_what_they_may_forget(
    state_redis: RedisServer, cache_redis: RedisServer
) -> None:
    policies = {
        redis.Redis.from_url(server.url).config_get("maxmemory-policy")["maxmemory-policy"]
        for server in (state_redis, cache_redis)
    }
    assert policies == {"noeviction", "allkeys-lru"}


def test_redis_factory_takes_options(redis_server: Callable[..., RedisServer]) -> None:
    connection = redis.Redis.from_url(redis_server("--databases", "3").url)
    assert connection.config_get("databases") == {"databases": "3"}


def test_weaviate_wants_its_key(weaviate: WeaviateServer) -> None:
    request = urllib.request.Request(f"{weaviate.url}/v1/meta")
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(request, timeout=5)
    request.add_header("Authorization", f"Bearer {weaviate.api_key}")
    with urllib.request.urlopen(request, timeout=5) as answer:
        assert json.load(answer)["version"] == "1.38.11"
