"""Fixtures of the operator's integration tests."""

import asyncio
import json
import subprocess
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ragtenancy_operator.errors import KubeError
from ragtenancy_operator.kube import Kube
from ragtenancy_operator.names import FINALIZER
from tests.fakes.openai import FakeOpenAI
from tests.integration.operator.world import (
    ACCOUNT,
    HOME,
    RBAC,
    ROOT,
    SYSTEM,
    OperatorProcess,
    World,
    condition,
    deployment,
    namespace_manifest,
    rendered,
    until,
)
from tests.integration.servers import KubeServer, RedisServer, WeaviateServer

_WHOLE = pytest.StashKey[bool]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the tests that look back at a whole run, those of test_rbac.py, at its end."""
    here = {item.path for item in items}
    some = config.getoption("keyword") or any("::" in word for word in config.args)
    config.stash[_WHOLE] = not some and here.issuperset(Path(__file__).parent.glob("test_*.py"))
    items.sort(key=lambda item: item.path == Path(__file__).with_name("test_rbac.py"))


@pytest.fixture
def whole_run(request: pytest.FixtureRequest) -> bool:
    """Whether every test of this directory is in the run."""
    return request.config.stash[_WHOLE]


@pytest.fixture(scope="session")
def kube(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeServer]:
    """An API server of their own: the operator acts on every object that it sees."""
    server = KubeServer.start(tmp_path_factory.mktemp("operator-kube"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def kubectl(kube: KubeServer) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the kubectl of the virtual environment."""

    def run(*words: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["kubectl", "--kubeconfig", str(kube.kubeconfig), *words],
            input=stdin,
            text=True,
            capture_output=True,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def crds(kubectl: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    """The CRDs, established."""
    files = sorted(str(path) for path in (ROOT / "crds").glob("*.yaml"))
    applied = kubectl("apply", "--server-side", *(f"--filename={path}" for path in files))
    assert applied.returncode == 0, applied.stderr
    waited = kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
    assert waited.returncode == 0, waited.stderr


@pytest.fixture(scope="session")
def world(
    kube: KubeServer,
    weaviate: WeaviateServer,
    state_redis: RedisServer,
    cache_redis: RedisServer,
    crds: None,
    kubectl: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[World]:
    """An operator that leads, a RAGDeployment that is Ready, and its API."""
    home = tmp_path_factory.mktemp("operator")
    upstream = FakeOpenAI().start()
    operator = OperatorProcess(home / "operator.kubeconfig", home)
    made = World(kube, weaviate, state_redis, cache_redis, upstream, operator, home)
    try:
        asyncio.run(_settle(made, kubectl))
        yield made
    finally:
        made.stop()
        upstream.stop()


async def _settle(made: World, kubectl: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    async with Kube(made.kube.kubeconfig) as kube:
        for name in (SYSTEM, HOME):
            await kube.create(namespace_manifest(name))
        applied = kubectl("apply", "--filename=-", stdin=yaml.safe_dump_all(rendered(*RBAC)))
        assert applied.returncode == 0, applied.stderr
        made.kube.act_as(SYSTEM, ACCOUNT, made.operator.kubeconfig)
        await kube.create(made.external_secret(HOME))
        await kube.create(deployment(HOME, made.spec()))
        made.operator.start()
        await made.run_api(kube)

        async def ready() -> bool:
            """RAGDeployment main is Ready"""
            found = await kube.find("RAGDeployment", HOME, "main")
            return condition(found, "Ready").get("status") == "True"

        await until(ready, 30)


@pytest.fixture
async def api(world: World) -> AsyncIterator[Kube]:
    """A client of the API server."""
    async with Kube(world.kube.kubeconfig) as kube:
        yield kube


_OURS = ("RAGTenant", "RAGDeployment", "RAGBinding")
_GOING_SECONDS = 15


@pytest.fixture(scope="module", autouse=True)
def _tidy(
    kube: KubeServer, crds: None, kubectl: Callable[..., subprocess.CompletedProcess[str]]
) -> Iterator[None]:
    """Nothing of one module's is left to the next, where the operator would go on with it."""
    yield
    asyncio.run(_remove(kube, kubectl))


async def _remove(
    kube: KubeServer, kubectl: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    def left() -> list[dict[str, Any]]:
        listed = kubectl("get", ",".join(_OURS), "--all-namespaces", "--output=json")
        assert listed.returncode == 0, listed.stderr
        return [
            obj
            for obj in json.loads(listed.stdout)["items"]
            if (obj["kind"], obj["metadata"]["namespace"]) != ("RAGDeployment", HOME)
        ]

    async with Kube(kube.kubeconfig) as client:
        for obj in left():
            await client.delete(obj)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _GOING_SECONDS
        while (remaining := left()) and loop.time() < deadline:
            await asyncio.sleep(0.5)
        # their stores ended with the module, or the operator did
        for obj in remaining:
            try:
                await client.set_finalizer(obj, FINALIZER, present=False)
            except KubeError as error:
                if error.status not in (404, 409):  # it went in this moment
                    raise


@pytest.fixture
async def team(api: Kube) -> str:
    """A namespace of the test's own."""
    name = f"team-{uuid.uuid4().hex[:8]}"
    await api.create(namespace_manifest(name))
    return name
