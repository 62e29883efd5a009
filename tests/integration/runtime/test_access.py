"""Who may come in and do what, on a pod that watches a real API server."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import aiohttp
import pytest
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.dynamic import DynamicClient

from ragtenancy_runtime.adapters.kubernetes import connect
from ragtenancy_runtime.http.routes import ROUTES
from tests.fakes.issuer import AUDIENCE, FakeIssuer
from tests.fakes.manifests import binding_manifest, deployment_manifest
from tests.fakes.openai import FakeOpenAI
from tests.integration.runtime.conftest import TENANTS, auth, make_collections
from tests.integration.runtime.test_answers import ask, chat
from tests.integration.runtime.test_watch import served, write
from tests.integration.runtime.world import Pod, environment
from tests.integration.servers import KubeServer, RedisServer, WeaviateServer

CHAT_MODEL_TWO = "fake/other"


@pytest.fixture(scope="module")
def watching(
    tmp_path_factory: pytest.TempPathFactory,
    kube: KubeServer,
    state_redis: RedisServer,
    cache_redis: RedisServer,
    weaviate: WeaviateServer,
    fake_openai: FakeOpenAI,
) -> Iterator[Pod]:
    """A pod that watches."""
    home = tmp_path_factory.mktemp("access")

    async def prepare() -> None:
        await make_collections(weaviate)
        api = await connect(str(kube.kubeconfig))
        await served(await DynamicClient(api))
        await api.close()

    asyncio.run(prepare())
    variables = environment(home, state_redis, cache_redis, weaviate, fake_openai)
    pod = Pod.start(home / "pod", {**variables, "KUBECONFIG": str(kube.kubeconfig)})
    yield pod
    pod.process.stop()


@pytest.fixture
async def cluster(kube: KubeServer) -> AsyncIterator[DynamicClient]:
    api: ApiClient = await connect(str(kube.kubeconfig))
    yield await DynamicClient(api)
    await api.close()


def deployment(upstream: FakeOpenAI, **spec: Any) -> dict[str, Any]:
    manifest = deployment_manifest(upstream.url)
    manifest["spec"] |= spec
    return manifest


def binding(name: str, **spec: Any) -> dict[str, Any]:
    manifest = binding_manifest(name, **TENANTS[name])
    manifest["spec"] |= spec
    return manifest


def key(name: str, **more: Any) -> list[dict[str, Any]]:
    keys: list[dict[str, Any]] = binding(name)["spec"]["keys"]
    return [{**keys[0], **more}]


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


async def models(
    http: aiohttp.ClientSession, pod: Pod, headers: dict[str, str]
) -> tuple[int, bytes]:
    """The cheapest request there is."""
    async with http.get(f"{pod.url}/v1/models", headers=headers) as response:
        return response.status, await response.read()


async def within_a_second(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(1):
        while not await holds():
            await asyncio.sleep(0.005)


def stamp(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))


async def code(
    http: aiohttp.ClientSession, pod: Pod, method: str, path: str, headers: dict[str, str]
) -> str | None:
    """The error code of an answer to an empty request; None when there is none."""
    url = f"{pod.url}{path.format(document_id='nothing')}"
    async with http.request(method, url, headers=headers) as response:
        answer = await response.json()
    found = answer.get("error", {}).get("code")
    assert found is None or isinstance(found, str)
    return found


async def test_a_reader_reads_and_a_suspended_tenant_is_refused_everywhere(
    watching: Pod, cluster: DynamicClient, http: aiohttp.ClientSession, upstream: FakeOpenAI
) -> None:
    await write(cluster, deployment(upstream))
    await write(cluster, binding("beta"))
    await write(cluster, binding("alpha", keys=key("alpha", role="Reader")))

    async def is_reader() -> bool:
        path = "/v1/documents/{document_id}"
        found = await code(http, watching, "DELETE", path, auth("alpha"))
        return found == "permission_denied"

    await within_a_second(is_reader)
    for route in ROUTES:
        reader = await code(http, watching, route.method, route.path, auth("alpha"))
        writer = await code(http, watching, route.method, route.path, auth("beta"))
        assert (reader == "permission_denied") is (route.role == "Writer"), route
        assert writer not in {"permission_denied", "invalid_api_key"}, route

    await write(cluster, binding("beta", suspended=True))

    async def refused() -> bool:
        return (await models(http, watching, auth("beta")))[0] == 403

    await within_a_second(refused)
    for route in ROUTES:
        found = await code(http, watching, route.method, route.path, auth("beta"))
        assert found == "tenant_suspended", route
        found = await code(http, watching, route.method, route.path, bearer("rtk_unknown"))
        assert found == "invalid_api_key", route
    await write(cluster, binding("beta", suspended=False))

    async def served_again() -> bool:
        return (await models(http, watching, auth("beta")))[0] == 200

    await within_a_second(served_again)


async def test_an_expired_key_is_unknown_from_its_moment_on(
    watching: Pod, cluster: DynamicClient, http: aiohttp.ClientSession, upstream: FakeOpenAI
) -> None:
    await write(cluster, deployment(upstream))
    await write(cluster, binding("alpha", keys=key("alpha", expiresAt=stamp(3))))

    async def served_now() -> bool:
        return (await models(http, watching, auth("alpha")))[0] == 200

    await within_a_second(served_now)
    async with asyncio.timeout(10):
        while await served_now():
            await asyncio.sleep(0.05)
    assert await models(http, watching, auth("alpha")) == await models(
        http, watching, bearer("rtk_unknown")
    )


async def test_tokens_of_the_issuer_and_keys_are_taken_as_the_deployment_says_now(
    watching: Pod, cluster: DynamicClient, http: aiohttp.ClientSession, upstream: FakeOpenAI
) -> None:
    issuer = FakeIssuer()
    issuer.rotate("one")
    issuer.start()
    await write(cluster, deployment(upstream))
    await write(cluster, binding("plain"))
    await write(cluster, binding("alpha", keys=[]))
    good = issuer.token("one", tenant="team/plain")
    unknown = await models(http, watching, bearer("rtk_unknown"))
    assert unknown[0] == 401
    assert await models(http, watching, bearer(good)) == unknown

    async def deploy(role: str, keys: bool) -> None:
        jwt = {"issuer": issuer.url, "audience": AUDIENCE, "role": role}
        deployed = deployment(upstream, api={"auth": {"apiKeys": {"enabled": keys}, "jwt": jwt}})
        await write(cluster, deployed)

    try:
        await deploy("Reader", keys=True)

        async def taken() -> bool:
            return (await models(http, watching, bearer(good)))[0] == 200

        await within_a_second(taken)
        assert (await models(http, watching, auth("plain")))[0] == 200
        keyless = issuer.token("one", tenant="team/alpha")
        assert (await models(http, watching, bearer(keyless)))[0] == 200
        for wrong in (
            issuer.token("one", tenant="team/nobody"),
            issuer.token("one", tenant="other/plain"),
            issuer.token("one", tenant="plain"),
            issuer.token("one", tenant="team/plain", aud="another"),
            issuer.token("one", tenant="team/plain", exp=1),
            issuer.forged("one", "none", tenant="team/plain"),
            "a.b.c",
            "..",
        ):
            assert await models(http, watching, bearer(wrong)) == unknown
        path = "/v1/documents/{document_id}"
        found = await code(http, watching, "DELETE", path, bearer(good))
        assert found == "permission_denied"

        await deploy("Writer", keys=False)

        async def no_keys() -> bool:
            return await models(http, watching, auth("plain")) == unknown

        await within_a_second(no_keys)
        found = await code(http, watching, "DELETE", path, bearer(good))
        assert found == "document_not_found"
    finally:
        issuer.stop()
        await write(cluster, deployment(upstream))


async def test_a_changed_model_answers_without_a_restart(
    watching: Pod, cluster: DynamicClient, http: aiohttp.ClientSession, upstream: FakeOpenAI
) -> None:
    await write(cluster, deployment(upstream))
    await write(cluster, binding("plain"))
    generation = {**deployment(upstream)["spec"]["generation"], "model": CHAT_MODEL_TWO}
    await write(cluster, deployment(upstream, generation=generation))
    try:
        async with asyncio.timeout(10):
            while True:
                _, response = await chat(http, watching, "plain", ask("hi", model=CHAT_MODEL_TWO))
                assert response.status in {200, 404, 503}
                if response.status == 200:
                    break
                await asyncio.sleep(0.1)
        assert upstream.asked[-1]["model"] == CHAT_MODEL_TWO
    finally:
        await write(cluster, deployment(upstream))
