"""What somebody else runs, and what is wrong with it: said of that component, with the field."""

import asyncio
import base64
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ragtenancy_operator.errors import KubeError
from ragtenancy_operator.kube import Kube
from tests.e2e.localnode.pki import Authority
from tests.fakes.openai import FakeOpenAI
from tests.fakes.proxy import proxy, server_tls
from tests.integration.operator.test_tenants import reason
from tests.integration.operator.world import World, condition, deployment, until
from tests.integration.servers import RedisServer, free_ports

PASSWORD = "hunter2-never-shown"


@dataclass(frozen=True)
class Outside:
    """Addresses of servers behind TLS, and the CA that signed for them."""

    authority: str
    other: str
    weaviate: str
    grpc: str
    model: str
    redis: str


@pytest.fixture(scope="module")
def outside(
    world: World,
    redis_server: Callable[..., RedisServer],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Outside]:
    home = tmp_path_factory.mktemp("outside")
    pki, other = Authority.create(home / "pki"), Authority.create(home / "other")
    pki.issue("server", "server", hosts=("IP:127.0.0.1",))
    certificate, key = pki.home / "server.crt", pki.home / "server.key"
    [port] = free_ports(1)
    server = redis_server(
        "--tls-port", str(port), "--tls-cert-file", str(certificate), "--tls-key-file", str(key),
        "--tls-ca-cert-file", str(pki.certificate), "--tls-auth-clients", "no",
    )  # fmt: skip
    provider = FakeOpenAI(key="sk-right").start()
    with ExitStack() as stack:

        def behind(backend: int, protocol: str) -> str:
            tls = server_tls(certificate, key, protocol)
            return f"127.0.0.1:{stack.enter_context(proxy(backend, tls=tls))}"

        yield Outside(
            authority=pki.certificate.read_text(),
            other=other.certificate.read_text(),
            weaviate=f"https://{behind(world.weaviate.http_port, 'http/1.1')}",
            grpc=f"grpcs://{behind(world.weaviate.grpc_port, 'h2')}",
            model=f"https://{behind(provider.port, 'http/1.1')}/v1",
            redis=f"rediss://:{server.password}@127.0.0.1:{port}/0",
        )
    provider.stop()


def spec(outside: Outside) -> dict[str, Any]:
    """A spec in which everything is external and behind TLS, with the entries of its Secret."""

    def ref(key: str) -> dict[str, str]:
        return {"name": "theirs", "key": key}

    tls = {"caSecretRef": ref("ca")}
    redis = {"redis": {"external": {"urlSecretRef": ref("redis"), "tls": tls}}}
    model = {"external": {"url": outside.model, "apiKeySecretRef": ref("key"), "tls": tls}}
    weaviate = {
        "httpUrl": outside.weaviate,
        "grpcUrl": outside.grpc,
        "apiKeySecretRef": ref("weaviate"),
        "tls": tls,
    }
    return {
        "vectorStore": {"weaviate": {"external": weaviate}},
        "embedding": {"model": "fake/embedding", "dimensions": 64, **model},
        "generation": {"model": "fake/chat", "maxModelLen": 4096, **model},
        "state": redis,
        "cache": redis,
        "api": {"replicas": 1},
    }


async def make(
    api: Kube, world: World, outside: Outside, team: str, changed: dict[str, Any]
) -> dict[str, Any]:
    values = {
        "ca": outside.authority,
        "other": outside.other,
        "weaviate": world.weaviate.api_key,
        "redis": outside.redis,
        "key": "sk-right",
        "wrong": PASSWORD,
        "wrong-redis": f"rediss://:{PASSWORD}@{outside.redis.split('@')[1]}",
        "plain-redis": outside.redis.replace("rediss:", "redis:"),
        "http-redis": f"redis://:{PASSWORD}@127.0.0.1:{world.weaviate.http_port}/0",
        "absent-redis": f"redis://:{PASSWORD}@127.0.0.1:1/0",
        "no-url": PASSWORD,
        "empty": " ",
    }
    data = {name: base64.b64encode(value.encode()).decode() for name, value in values.items()}
    data["binary"] = base64.b64encode(b"\xff\xfe\x00").decode()
    secret = {"apiVersion": "v1", "kind": "Secret", "data": data}
    await api.create(secret | {"metadata": {"name": "theirs", "namespace": team}})
    whole = json.loads(json.dumps(spec(outside)))  # no part shared
    for path, value in changed.items():
        *parents, last = path.split(".")
        at = whole
        for parent in parents:
            at = at[parent]
        if value is None:
            del at[last]
        else:
            at[last] = value
    return await api.create(deployment(team, whole))


VECTOR = "vectorStore.weaviate.external"
STATE = "state.redis.external"
CACHE = "cache.redis.external"
EMBEDDING = "embedding.external"
GENERATION = "generation.external"
CASES: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "nothing listens at Weaviate's URL": (
        {f"{VECTOR}.httpUrl": "https://127.0.0.1:1"}, "VectorStoreReady", "Unreachable", "httpUrl",
    ),
    "a model server is no Weaviate": (
        {f"{VECTOR}.httpUrl": "{model}"}, "VectorStoreReady", "NotWeaviate", "httpUrl",
    ),
    "Weaviate's REST is no gRPC": (
        {f"{VECTOR}.grpcUrl": "grpc://127.0.0.1:{http_port}"}, "VectorStoreReady", "NotWeaviate",
        "grpcUrl",
    ),
    "nothing listens at Weaviate's gRPC": (
        {f"{VECTOR}.grpcUrl": "grpc://127.0.0.1:1"}, "VectorStoreReady", "Unreachable", "grpcUrl",
    ),
    "Weaviate refuses the key": (
        {f"{VECTOR}.apiKeySecretRef.key": "wrong"}, "VectorStoreReady", "CredentialsRefused",
        "apiKeySecretRef",
    ),
    "Weaviate's certificate is of another CA": (
        {f"{VECTOR}.tls.caSecretRef.key": "other"}, "VectorStoreReady", "CertificateNotTrusted",
        "tls.caSecretRef",
    ),
    "the CA is none": (
        {f"{VECTOR}.tls.caSecretRef.key": "wrong"}, "VectorStoreReady", "SecretMalformed",
        "tls.caSecretRef",
    ),
    "the CA's entry is missing": (
        {f"{VECTOR}.tls.caSecretRef.key": "absent"}, "VectorStoreReady", "SecretMissing",
        "tls.caSecretRef",
    ),
    "nothing listens at Redis": (
        {f"{STATE}.urlSecretRef.key": "absent-redis", f"{STATE}.tls": None}, "StateReady",
        "Unreachable", "urlSecretRef",
    ),
    "an HTTP server is no Redis": (
        {f"{STATE}.urlSecretRef.key": "http-redis", f"{STATE}.tls": None}, "StateReady", "NotRedis",
        "urlSecretRef",
    ),
    "Redis refuses the password": (
        {f"{CACHE}.urlSecretRef.key": "wrong-redis"}, "CacheReady", "CredentialsRefused",
        "urlSecretRef",
    ),
    "Redis's certificate is of another CA": (
        {f"{STATE}.tls.caSecretRef.key": "other"}, "StateReady", "CertificateNotTrusted",
        "tls.caSecretRef",
    ),
    "TLS is asked for and the URL has none": (
        {f"{STATE}.urlSecretRef.key": "plain-redis"}, "StateReady", "RedisURL", "urlSecretRef",
    ),
    "the Redis URL is no URL": (
        {f"{STATE}.urlSecretRef.key": "no-url"}, "StateReady", "RedisURL", "urlSecretRef",
    ),
    "a Secret is missing": (
        {f"{CACHE}.urlSecretRef.name": "absent"}, "CacheReady", "SecretMissing", "urlSecretRef",
    ),
    "a Secret holds no text": (
        {f"{GENERATION}.apiKeySecretRef.key": "binary"}, "GenerationReady", "SecretMalformed",
        "apiKeySecretRef",
    ),
    "a Secret's entry is empty": (
        {f"{GENERATION}.apiKeySecretRef.key": "empty"}, "GenerationReady", "SecretMalformed",
        "apiKeySecretRef",
    ),
    "nothing listens at the model's URL": (
        {f"{EMBEDDING}.url": "https://127.0.0.1:1/v1"}, "EmbeddingReady", "Unreachable", "url",
    ),
    "no such host": (
        {f"{EMBEDDING}.url": "https://model.invalid/v1"}, "EmbeddingReady", "Unreachable", "url",
    ),
    "Weaviate is no model": (
        {f"{GENERATION}.url": "{weaviate}", f"{GENERATION}.tls": None},
        "GenerationReady", "NotOpenAI", "url",
    ),
    "Redis is no model": (
        {f"{GENERATION}.url": "http://127.0.0.1:{redis_port}/v1", f"{GENERATION}.tls": None},
        "GenerationReady", "Unreachable", "url",
    ),
    "a gRPC server is no model": (
        {f"{GENERATION}.url": "http://127.0.0.1:{grpc_port}/v1", f"{GENERATION}.tls": None},
        "GenerationReady", "NotHTTP", "url",
    ),
    "the model's URL forgets its TLS": (
        {f"{GENERATION}.url": "https://127.0.0.1:{http_port}/v1"}, "GenerationReady", "NotTLS",
        "url",
    ),
    "the model refuses the key": (
        {f"{GENERATION}.apiKeySecretRef.key": "wrong"}, "GenerationReady", "CredentialsRefused",
        "apiKeySecretRef",
    ),
    "the model's certificate is not of a public CA": (
        {f"{EMBEDDING}.tls": None}, "EmbeddingReady", "CertificateNotTrusted", "tls.caSecretRef",
    ),
}  # fmt: skip
KINDS = {"VectorStoreReady", "StateReady", "CacheReady", "EmbeddingReady", "GenerationReady"}


async def test_everything_external_behind_tls_is_ready(
    world: World, api: Kube, outside: Outside, team: str
) -> None:
    made = await make(api, world, outside, team, {})
    for kind in sorted(KINDS):
        await reason(api, made, kind, "External")
    pods = await api.get("Deployment", team, "main-api")
    volumes = pods["spec"]["template"]["spec"]["volumes"]
    (credentials,) = [each for each in volumes if each["name"] == "credentials"]
    files = {i["path"] for s in credentials["projected"]["sources"] for i in s["secret"]["items"]}
    assert {f"{p}-ca.crt" for p in ("weaviate", "state-redis", "cache-redis")} <= files
    assert {"embedding-ca.crt", "generation-ca.crt"} <= files


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({f"{GENERATION}.url": "http://model/v1"}, "url must begin with https://"),
        (
            {f"{VECTOR}.httpUrl": "http://weaviate", f"{VECTOR}.grpcUrl": "grpc://weaviate:50051"},
            "httpUrl must begin with https://",
        ),
    ],
)
async def test_a_ca_that_nothing_would_be_verified_by_is_refused(
    world: World, api: Kube, outside: Outside, team: str, changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(KubeError, match=message):
        await make(api, world, outside, team, changed)


async def test_pods_roll_when_a_persons_secret_changes(
    world: World, api: Kube, outside: Outside, team: str
) -> None:
    made = await make(api, world, outside, team, {})
    await reason(api, made, "GenerationReady", "External")

    async def mark() -> str:
        pods = await api.get("Deployment", team, "main-api")
        annotations: dict[str, str] = pods["spec"]["template"]["metadata"]["annotations"]
        return annotations["ragtenancy.io/credentials"]

    before = await mark()
    assert before
    patch = {"data": {"key": base64.b64encode(b"sk-rotated").decode()}}
    await api.merge("Secret", team, "theirs", patch)

    async def rolled() -> bool:
        """the API's template has another hash"""
        return await mark() != before

    await until(rolled, 45)
    await reason(api, made, "GenerationReady", "CredentialsRefused")


@pytest.mark.parametrize("name", CASES)
async def test_what_is_wrong_is_said_in_seconds_of_that_component_alone(
    world: World, api: Kube, outside: Outside, team: str, name: str
) -> None:
    changed, kind, wanted, field = CASES[name]
    values = {
        "model": outside.model,
        "weaviate": f"{world.weaviate.url}",
        "http_port": world.weaviate.http_port,
        "grpc_port": world.weaviate.grpc_port,
        "redis_port": world.state.port,
    }
    filled = {
        path: value.format(**values) if isinstance(value, str) else value
        for path, value in changed.items()
    }
    started = time.monotonic()
    made = await make(api, world, outside, team, filled)
    try:
        said = await reason(api, made, kind, wanted)
    except AssertionError:
        print(condition(await api.get("RAGDeployment", team, "main"), kind))
        raise
    seconds = time.monotonic() - started
    path = next(iter(changed)).split(".external")[0]
    assert said["message"].startswith(f"spec.{path}.external.{field}"), said
    assert said["status"] == "False"
    assert PASSWORD not in str(said)
    found = await api.get("RAGDeployment", team, "main")
    for other in KINDS - {kind}:
        assert condition(found, other)["reason"] == "External", (other, condition(found, other))
    process = world.operator.process
    assert process is not None
    assert PASSWORD not in await asyncio.to_thread(Path(process.log).read_text)
    print(f"{name}: {seconds:.1f} s, {said['reason']}: {said['message']}")
    # it would be looked at every few seconds to the end of the run
    paused = {"metadata": {"annotations": {"ragtenancy.io/paused": "true"}}}
    await api.merge("RAGDeployment", team, "main", paused)
