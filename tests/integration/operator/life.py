"""What the tests of a tenant's life do: read bindings, ask the API, change the platform."""

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from ragtenancy_operator.kube import Kube
from ragtenancy_operator.store import Manifest
from tests.integration.operator.world import HOME, World, condition, until


async def binding_of(api: Kube, made: Manifest) -> dict[str, Any]:
    """The spec of a tenant's binding; the API server leaves an empty list out."""
    found = await api.get("RAGBinding", HOME, made["metadata"]["uid"])
    return {"keys": [], **found["spec"]}


async def call(
    world: World, key: str, method: str, path: str, body: Any = None
) -> tuple[int, dict[str, Any]]:
    """Status and answer of a request to the API."""
    headers = {"Authorization": f"Bearer {key}"}
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, f"{world.api}/v1/{path}", json=body, headers=headers) as answer,
    ):
        return answer.status, await answer.json()


async def load(world: World, key: str, document: str, text: str) -> None:
    """Load a document."""
    status, answer = await call(world, key, "POST", "documents", {"id": document, "text": text})
    assert status == 201, answer


async def search(world: World, key: str, query: str) -> list[str]:
    """Texts that a search finds."""
    body = {"query": query, "mode": "Keyword", "top_k": 20}
    status, answer = await call(world, key, "POST", "search", body)
    assert status == 200, answer
    return [result["text"] for result in answer["results"]]


async def objects(world: World, collection: str, tenant: str) -> int | None:
    """How many objects a Weaviate tenant has; None when it, or the collection, is not there."""
    headers = {"Authorization": f"Bearer {world.weaviate.api_key}"}
    query = {"query": f'{{Aggregate{{{collection}(tenant:"{tenant}"){{meta{{count}}}}}}}}'}
    url = f"{world.weaviate.url}/v1/graphql"
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, json=query, headers=headers) as answer,
    ):
        data = ((await answer.json()).get("data") or {}).get("Aggregate") or {}
    found = data.get(collection)
    return int(found[0]["meta"]["count"]) if found else None


async def poke(api: Kube, made: Manifest) -> None:
    """Have a tenant looked at now."""
    metadata = made["metadata"]
    found = await api.get("RAGTenant", metadata["namespace"], metadata["name"])
    pokes = int((found["metadata"].get("annotations") or {}).get("test/pokes", 0))
    patch = {"metadata": {"annotations": {"test/pokes": str(pokes + 1)}}}
    await api.merge("RAGTenant", metadata["namespace"], metadata["name"], patch)


async def put_secret(api: Kube, namespace: str, name: str, value: str) -> None:
    """A Secret with the entry token, made or changed."""
    data = {"token": base64.b64encode(value.encode()).decode()}
    if await api.find("Secret", namespace, name) is None:
        metadata = {"name": name, "namespace": namespace}
        await api.create({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data})
    else:
        await api.merge("Secret", namespace, name, {"data": data})


@asynccontextmanager
async def platform(api: Kube, changes: dict[str, Any]) -> AsyncIterator[None]:
    """The RAGDeployment's spec changed for a while."""
    before = (await api.get("RAGDeployment", HOME, "main"))["spec"]
    await api.merge("RAGDeployment", HOME, "main", {"spec": changes})
    try:
        yield
    finally:
        latest = (await api.get("RAGDeployment", HOME, "main"))["spec"]
        await api.merge("RAGDeployment", HOME, "main", {"spec": undoing(before, latest)})


def undoing(before: Any, now: Any) -> Any:
    """The merge patch that makes of ``now`` what was before."""
    if not isinstance(before, dict) or not isinstance(now, dict):
        return before
    gone = dict.fromkeys(now.keys() - before.keys())
    return gone | {name: undoing(value, now.get(name)) for name, value in before.items()}


async def gone(api: Kube, made: Manifest) -> None:
    """Wait until a RAGTenant is not there any more."""
    metadata = made["metadata"]

    async def check() -> bool:
        """the tenant is gone"""
        found = await api.find("RAGTenant", metadata["namespace"], metadata["name"])
        return found is None or found["metadata"]["uid"] != metadata["uid"]

    await until(check)


async def ready_reason(api: Kube, made: Manifest) -> str | None:
    """Reason of the condition Ready."""
    metadata = made["metadata"]
    found = await api.get("RAGTenant", metadata["namespace"], metadata["name"])
    reason: str | None = condition(found, "Ready").get("reason")
    return reason
