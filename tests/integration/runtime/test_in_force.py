"""What a RAGDeployment says is what its pods do."""

from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from tests.fakes.manifests import binding_manifest, deployment_manifest
from tests.fakes.openai import DIMENSIONS, FakeOpenAI
from tests.integration.runtime.conftest import auth
from tests.integration.runtime.world import Pod, environment
from tests.integration.servers import RedisServer, WeaviateServer

TEXT = " ".join(f"Sentence number {at} says one thing." for at in range(60))


@pytest.mark.usefixtures("pods")  # which has made the collections
async def test_chunks_documents_and_vectors_are_as_the_deployment_says(
    tmp_path: Path,
    http: aiohttp.ClientSession,
    state_redis: RedisServer,
    cache_redis: RedisServer,
    weaviate: WeaviateServer,
    upstream: FakeOpenAI,
) -> None:
    async def answered(
        name: str, ingestion: dict[str, Any], dimensions: int = DIMENSIONS
    ) -> tuple[int, int]:
        home = tmp_path / name
        deployment = deployment_manifest(upstream.url)
        deployment["spec"]["ingestion"] = ingestion
        deployment["spec"]["embedding"]["dimensions"] = dimensions
        (home / "tenants").mkdir(parents=True)
        manifests = [deployment, binding_manifest("alpha")]
        (home / "tenants/all.yaml").write_text(yaml.safe_dump_all(manifests))
        variables = environment(home, state_redis, cache_redis, weaviate, upstream)
        pod = Pod.start(home, variables, "--tenants", str(home / "tenants"))
        try:
            url, body = f"{pod.url}/v1/documents", {"id": name, "text": TEXT}
            async with http.post(url, json=body, headers=auth("alpha")) as response:
                return response.status, (await response.json()).get("chunks", 0)
        finally:
            pod.process.stop()

    _, large = await answered("large", {"chunking": {"tokens": 400, "overlap": 0}})
    _, small = await answered("small", {"chunking": {"tokens": 100, "overlap": 0}})
    _, lapping = await answered("lapping", {"chunking": {"tokens": 100, "overlap": 60}})
    assert 0 < large < small < lapping
    status, _ = await answered("bounded", {"maxDocumentBytes": len(TEXT) - 1})
    assert status == 413
    status, _ = await answered("longer", {}, DIMENSIONS + 1)
    assert status == 503
