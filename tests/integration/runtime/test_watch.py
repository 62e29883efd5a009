"""The directory follows the cluster, and says how far."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.dynamic import DynamicClient
from kubernetes.aio.dynamic.exceptions import NotFoundError, ResourceNotFoundError

from ragtenancy_runtime.adapters.kubernetes import Expired, KubernetesTenants, connect
from ragtenancy_runtime.errors import Unavailable
from ragtenancy_runtime.tenants import Directory
from tests.fakes.manifests import (
    DEPLOYMENT,
    NAMESPACE,
    binding_manifest,
    deployment_manifest,
    key_of,
    uid_of,
)
from tests.integration.servers import KubeServer

CRDS = Path(__file__).parents[3] / "crds"


async def write(client: DynamicClient, manifest: dict[str, Any]) -> Any:
    """Create an object, or take over one that is there."""
    resource = await client.resources.get(api_version=manifest["apiVersion"], kind=manifest["kind"])
    return await client.server_side_apply(
        resource,
        body=manifest,
        namespace=manifest["metadata"].get("namespace"),
        field_manager="test",
        force_conflicts=True,
    )


@pytest.fixture
async def api(kube: KubeServer) -> AsyncIterator[ApiClient]:
    client = await connect(str(kube.kubeconfig))
    yield client
    await client.close()


@asynccontextmanager
async def following(api: ApiClient, namespace: str) -> AsyncIterator[tuple[Directory, Any]]:
    directory = Directory()
    source = KubernetesTenants(api, namespace, DEPLOYMENT, directory)
    watches = [asyncio.create_task(watch.run()) for watch in source.watches]
    try:
        yield directory, source
    finally:
        for task in watches:
            task.cancel()
        await asyncio.gather(*watches, return_exceptions=True)


def knows(directory: Directory, name: str) -> bool:
    identity = directory.by_key(key_of(name), time.time())
    return identity is not None and identity.tenant.uid == uid_of(name)


async def within_a_second(holds: Any) -> None:
    async with asyncio.timeout(1):
        while not holds():
            await asyncio.sleep(0.005)


async def served(client: DynamicClient) -> None:
    """Have the kinds and the namespace there, and wait until the API server serves them."""
    for path in sorted(CRDS.glob("rag*.yaml")):
        await write(client, yaml.safe_load(path.read_text()))
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    await write(client, namespace)
    async with asyncio.timeout(20):
        while True:
            try:
                await write(client, deployment_manifest("http://127.0.0.1:1/v1"))
            except (ResourceNotFoundError, NotFoundError):
                await client.resources.invalidate_cache()
                await asyncio.sleep(0.1)
            else:
                return


async def test_changes_are_live_within_a_second_and_progress_tells_of_them(api: ApiClient) -> None:
    client = await DynamicClient(api)
    await served(client)
    await write(client, binding_manifest("first"))
    namespace = NAMESPACE

    async with following(api, namespace) as (directory, source):
        async with asyncio.timeout(10):
            await source.synced()
        assert knows(directory, "first")
        assert directory.deployment.generation.max_model_len == 4096

        written = await write(client, binding_manifest("second"))
        await within_a_second(lambda: knows(directory, "second"))
        version = int(written.metadata.resourceVersion)
        assert int(source.progress.ragbindings) >= version

        # Another deployment's tenants are none of ours.
        other = binding_manifest("other")
        other["spec"]["deploymentRef"]["name"] = "another"
        await write(client, other)
        # A key that is claimed twice belongs to nobody.
        thief = binding_manifest("thief")
        thief["spec"]["keys"][0]["sha256"] = binding_manifest("first")["spec"]["keys"][0]["sha256"]
        await write(client, thief)
        await within_a_second(lambda: not knows(directory, "first"))
        assert not knows(directory, "other")

        bindings = await client.resources.get(
            api_version="ragtenancy.io/v1alpha1", kind="RAGBinding"
        )
        await bindings.delete(name=uid_of("thief"), namespace=namespace)
        await within_a_second(lambda: knows(directory, "first"))

        # A binding that is being removed authenticates nobody, also before it is gone.
        held = binding_manifest("second")
        held["metadata"]["finalizers"] = ["ragtenancy.io/test"]
        await write(client, held)
        await bindings.delete(name=uid_of("second"), namespace=namespace)
        await within_a_second(lambda: not knows(directory, "second"))
        held["metadata"]["finalizers"] = []
        await write(client, held)

        deployments = await client.resources.get(
            api_version="ragtenancy.io/v1alpha1", kind="RAGDeployment"
        )
        await deployments.delete(name=DEPLOYMENT, namespace=namespace)

        def gone() -> bool:
            try:
                return directory.deployment is None
            except Unavailable:
                return True

        await within_a_second(gone)


async def test_a_watch_from_a_forgotten_version_asks_for_a_new_list(api: ApiClient) -> None:
    client = await DynamicClient(api)
    await served(client)
    directory = Directory()
    watch = KubernetesTenants(api, NAMESPACE, DEPLOYMENT, directory).watches[0]
    watch.progress = "1"
    with pytest.raises(Expired):
        await watch._watch()
