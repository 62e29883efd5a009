"""Tenants of isolation Filter share a shard, and nothing crosses between them."""

import json
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import aiohttp
import pytest
from yarl import URL

from ragtenancy_api.wiring import OWNER, SHARED_TENANT
from tests.fakes.manifests import CHUNKS, DOCUMENTS, uid_of
from tests.fakes.openai import FakeOpenAI
from tests.integration.runtime.conftest import OWNERS, auth
from tests.integration.runtime.test_answers import ask, chat, put, search
from tests.integration.runtime.world import Pod
from tests.integration.servers import WeaviateServer

MODES = ("Hybrid", "Vector", "Keyword")
SECRET = {"left": "periwinkle", "right": "vermilion", "heir": "heliotrope"}


async def objects(
    http: aiohttp.ClientSession, weaviate: WeaviateServer, collection: str, tenant: str
) -> list[dict[str, Any]]:
    """Everything that lies in a Weaviate tenant."""
    url = f"{weaviate.url}/v1/objects?class={collection}&tenant={tenant}&limit=1000"
    headers = {"authorization": f"Bearer {weaviate.api_key}"}
    async with http.get(url, headers=headers) as response:
        found: list[dict[str, Any]] = (await response.json())["objects"]
        return found


async def document(
    http: aiohttp.ClientSession, pod: Pod, tenant: str, method: str, name: str
) -> tuple[int, dict[str, Any]]:
    url = URL(f"{pod.url}/v1/documents/{quote(name, safe='')}", encoded=True)
    async with http.request(method, url, headers=auth(tenant)) as response:
        return response.status, await response.json()


def text(tenant: str) -> str:
    return f"The launch code of the rocket is {SECRET[tenant]}."


async def test_the_same_ids_in_one_shard_are_each_tenants_own(
    pod: Pod, http: aiohttp.ClientSession, upstream: FakeOpenAI, weaviate: WeaviateServer
) -> None:
    name = f"same-{uuid4()}"
    for tenant in SECRET:
        assert (await put(http, pod, tenant, id=name, text=text(tenant)))["chunks"] == 1

    for tenant, secret in SECRET.items():
        for mode in MODES:
            question = "launch code rocket periwinkle vermilion heliotrope"
            found = await search(http, pod, tenant, question, mode=mode, top_k=100)
            assert secret in json.dumps(found), (tenant, mode)
            others = set(SECRET.values()) - {secret}
            assert not any(other in json.dumps(found) for other in others), (tenant, mode)
        upstream.asked.clear()
        answer, response = await chat(http, pod, tenant, ask(f"The launch code? {uuid4()}"))
        assert response.status == 200
        seen = json.dumps([answer, upstream.asked])
        assert secret in seen and not any(other in seen for other in others)
        status, record = await document(http, pod, tenant, "GET", name)
        assert status == 200 and record["bytes"] == len(text(tenant))

    for collection in (DOCUMENTS, CHUNKS):
        here = await objects(http, weaviate, collection, SHARED_TENANT)
        ours = [entry for entry in here if entry["properties"]["document_id"] == name]
        assert {entry["properties"][OWNER] for entry in ours} == set(OWNERS.values())
        assert len({entry["id"] for entry in ours}) == len(SECRET)

    assert (await document(http, pod, "left", "DELETE", name))[0] == 200
    assert (await document(http, pod, "left", "DELETE", name))[0] == 404
    for mode in MODES:
        found = await search(http, pod, "left", "launch code", mode=mode)
        assert name not in {entry["document_id"] for entry in found}
    for tenant in ("right", "heir"):
        assert (await document(http, pod, tenant, "GET", name))[0] == 200
        for mode in MODES:
            assert SECRET[tenant] in json.dumps(
                await search(http, pod, tenant, "launch code", mode=mode, top_k=100)
            )
    changed = await put(http, pod, "right", id=name, text="Nothing is launched.")
    assert changed["chunks"] == 1
    assert SECRET["right"] not in json.dumps(
        await search(http, pod, "right", "launch code", mode="Keyword", top_k=100)
    )
    assert SECRET["heir"] in json.dumps(await search(http, pod, "heir", "launch code", top_k=100))


@pytest.mark.parametrize(
    "hostile",
    [
        uid_of("right"),
        f'{uid_of("right")}", "same',
        f'["shared", "{uid_of("right")}", "same"]',
        "*",
        "?",
        "%",
        "' OR 1=1 --",
        '"}}, {"operator": "Like", "path": ["owner"], "valueText": "*',
        "same\u2028",
        "..",
    ],
)
async def test_a_hostile_id_reaches_nothing_of_another(
    pod: Pod, http: aiohttp.ClientSession, upstream: FakeOpenAI, hostile: str
) -> None:
    await put(http, pod, "right", id="same", text=text("right"))
    await put(http, pod, "left", id=hostile, text=text("left"))
    for mode in MODES:
        found = await search(http, pod, "left", hostile, mode=mode, top_k=100)
        assert SECRET["right"] not in json.dumps(found)
    if hostile != "..":  # an HTTP client resolves it away
        assert (await document(http, pod, "right", "GET", hostile))[0] == 404
        assert (await document(http, pod, "left", "DELETE", hostile))[0] == 200
    status, record = await document(http, pod, "right", "GET", "same")
    assert status == 200 and record["bytes"] == len(text("right"))
    assert SECRET["right"] in json.dumps(
        await search(http, pod, "right", "launch code", mode="Keyword", top_k=100)
    )


async def test_a_shard_of_its_own_says_whose_it_is_too(
    pod: Pod, http: aiohttp.ClientSession, upstream: FakeOpenAI, weaviate: WeaviateServer
) -> None:
    name = f"owned-{uuid4()}"
    await put(http, pod, "beta", id=name, text="Mine alone.")
    for collection in (DOCUMENTS, CHUNKS):
        here = await objects(http, weaviate, collection, uid_of("beta"))
        assert {entry["properties"][OWNER] for entry in here} == {uid_of("beta")}
