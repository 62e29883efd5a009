"""Servers that somebody else runs: TLS by a CA of their own, keys, and OpenAI's fields alone."""

import json
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from urllib.error import HTTPError
from urllib.request import urlopen

import aiohttp
import pytest

from ragtenancy_api import wiring
from tests.e2e.localnode.pki import Authority
from tests.fakes.manifests import binding_manifest
from tests.fakes.openai import FakeOpenAI
from tests.fakes.proxy import proxy, server_tls
from tests.integration.runtime.conftest import auth, make_collections
from tests.integration.runtime.world import Pod, environment, write_tenants
from tests.integration.servers import (
    CACHE_OPTIONS,
    STATE_OPTIONS,
    RedisServer,
    WeaviateServer,
    free_ports,
)

KEY = "sk-provider"
NONE: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Outside:
    """Everything that a pod needs, behind TLS."""

    upstream: FakeOpenAI
    environment: dict[str, str]
    authority: Path
    home: Path

    def start(self, name: str, files: Mapping[str, str] = NONE, ready: bool = True) -> Pod:
        """A pod with these credential files in the place of the right ones."""
        home = self.home / name
        credentials = home / "credentials"
        credentials.mkdir(parents=True)
        for path in Path(self.environment[wiring.ENV_CREDENTIALS]).iterdir():
            (credentials / path.name).write_text(files.get(path.name, path.read_text()))
        variables = self.environment | {wiring.ENV_CREDENTIALS: str(credentials)}
        return Pod.start(home, variables, "--tenants", str(self.home / "tenants"), ready=ready)


@pytest.fixture(scope="module")
def outside(
    tmp_path_factory: pytest.TempPathFactory,
    redis_server: Callable[..., RedisServer],
    weaviate: WeaviateServer,
) -> Iterator[Outside]:
    import asyncio

    home = tmp_path_factory.mktemp("outside")
    pki = Authority.create(home / "pki")
    pki.issue("server", "server", hosts=("IP:127.0.0.1",))
    certificate, key = pki.home / "server.crt", pki.home / "server.key"
    upstream = FakeOpenAI(key=KEY, strict=True).start()
    asyncio.run(make_collections(weaviate))
    tls_ports = free_ports(2)
    served = [
        redis_server(
            *options, "--tls-port", str(port), "--tls-cert-file", str(certificate),
            "--tls-key-file", str(key), "--tls-ca-cert-file", str(pki.certificate),
            "--tls-auth-clients", "no",
        )
        for options, port in zip((STATE_OPTIONS, CACHE_OPTIONS), tls_ports, strict=True)
    ]  # fmt: skip
    with ExitStack() as stack:

        def behind(port: int, protocol: str) -> str:
            return f"127.0.0.1:{stack.enter_context(proxy(port, tls=context(protocol)))}"

        def context(protocol: str) -> ssl.SSLContext:
            return server_tls(certificate, key, protocol)

        model = f"https://{behind(upstream.port, 'http/1.1')}/v1"
        variables = environment(home, served[0], served[1], weaviate, upstream) | {
            wiring.ENV_WEAVIATE_HTTP_URL: f"https://{behind(weaviate.http_port, 'http/1.1')}",
            wiring.ENV_WEAVIATE_GRPC_URL: f"grpcs://{behind(weaviate.grpc_port, 'h2')}",
            wiring.ENV_EMBEDDING_URL: model,
            wiring.ENV_GENERATION_URL: model,
        }
        credentials = Path(variables[wiring.ENV_CREDENTIALS])
        for name, redis, port in zip(
            (wiring.CREDENTIAL_STATE_REDIS, wiring.CREDENTIAL_CACHE_REDIS),
            served,
            tls_ports,
            strict=True,
        ):
            (credentials / name).write_text(f"rediss://:{redis.password}@127.0.0.1:{port}/0")
        for name in (wiring.CREDENTIAL_EMBEDDING, wiring.CREDENTIAL_GENERATION):
            (credentials / name).write_text(KEY)
        for name in (
            wiring.CA_WEAVIATE, wiring.CA_EMBEDDING, wiring.CA_GENERATION,
            wiring.CA_STATE_REDIS, wiring.CA_CACHE_REDIS,
        ):  # fmt: skip
            (credentials / name).write_text(pki.certificate.read_text())
        write_tenants(home / "tenants", upstream, binding_manifest("alpha"))
        yield Outside(upstream, variables, pki.certificate, home)
    upstream.stop()


@pytest.fixture(scope="module")
def pod(outside: Outside) -> Iterator[Pod]:
    started = outside.start("right")
    yield started
    started.process.stop()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_strict_provider_is_sent_what_openai_knows_and_its_key(
    outside: Outside, pod: Pod, http: aiohttp.ClientSession, stream: bool
) -> None:
    document = {"id": f"d{stream}", "text": "The kettle is in the cupboard under the stairs."}
    async with http.post(f"{pod.url}/v1/documents", json=document, headers=auth("alpha")) as got:
        assert got.status == 201, await got.text()
    question = {"role": "user", "content": f"Where is the kettle? {stream}"}
    body = {"model": "default", "messages": [question], "stream": stream}
    async with http.post(f"{pod.url}/v1/chat/completions", json=body, headers=auth("alpha")) as got:
        answer = await got.text()
        assert got.status == 200, answer
    assert "Hello" in answer
    assert "error" not in answer
    assert "cupboard" in str(outside.upstream.asked[-1]["messages"])
    async with http.delete(f"{pod.url}/v1/documents/d{stream}", headers=auth("alpha")) as deleted:
        assert deleted.status == 200, await deleted.text()


async def test_a_certificate_of_another_ca_is_not_trusted(
    outside: Outside, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    other = Authority.create(tmp_path / "other").certificate.read_text()
    pod = outside.start("wrong", {wiring.CA_GENERATION: other})
    try:
        body = {"model": "default", "messages": [{"role": "user", "content": "Anybody there?"}]}
        asked = len(outside.upstream.asked)
        async with http.post(
            f"{pod.url}/v1/chat/completions", json=body, headers=auth("alpha")
        ) as got:
            assert got.status == 503
        assert len(outside.upstream.asked) == asked
    finally:
        pod.process.stop()


@pytest.mark.parametrize(
    ("file", "missing"),
    [(wiring.CA_WEAVIATE, "vector store"), (wiring.CA_STATE_REDIS, "state")],
)
def test_a_store_of_another_ca_keeps_the_pod_from_being_ready(
    outside: Outside, tmp_path: Path, file: str, missing: str
) -> None:
    other = Authority.create(tmp_path / "other").certificate.read_text()
    pod = outside.start(f"wrong-{file}", {file: other}, ready=False)

    def lacking() -> bool:
        try:
            urlopen(f"{pod.url}/readyz", timeout=1)
        except HTTPError as answer:
            return bool(json.load(answer)["missing"] == [missing])
        except OSError:
            return False
        raise AssertionError("it is ready")

    try:
        pod.process.wait_until(lacking)
    finally:
        pod.process.stop()
