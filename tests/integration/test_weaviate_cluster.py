"""Weaviate with three members: it grows live, and goes on without any one of them."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from uuid import uuid4

import aiohttp
import pytest

from ragtenancy_api.stores import Collection
from ragtenancy_operator.errors import Retry
from ragtenancy_operator.weaviate import Weaviate
from ragtenancy_runtime.adapters.weaviate import WeaviateStore
from ragtenancy_runtime.errors import Unavailable
from ragtenancy_runtime.ports import Chunk, Corpus, Document
from tests.fakes.openai import DIMENSIONS, embed
from tests.fakes.proxy import proxy
from tests.integration.operator.world import until
from tests.integration.servers import WeaviateCluster

CORPUS = Corpus(documents="Documents", chunks="Chunks", tenant="acme", owner=str(uuid4()))
FACTS = ("the kettle is blue", "the door is red", "the lamp is green")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WeaviateCluster]:
    made = WeaviateCluster(tmp_path_factory.mktemp("cluster"))
    yield made
    made.stop()


@contextmanager
def service(cluster: WeaviateCluster) -> Iterator[WeaviateStore]:
    """The runtime's client, behind one address as a Service has; not connected yet."""
    with (
        proxy(*(member.http_port for member in cluster.members)) as http,
        proxy(*(member.grpc_port for member in cluster.members)) as grpc,
    ):
        key = cluster.members[0].api_key
        yield WeaviateStore(f"http://127.0.0.1:{http}", f"grpc://127.0.0.1:{grpc}", key)


async def prepare(cluster: WeaviateCluster, documents: str, chunks: str) -> int:
    """Have collections as the operator makes them; gives the copies of a shard."""
    async with aiohttp.ClientSession() as session:
        member = cluster.members[0]
        operator = Weaviate(session, member.url, member.api_key)
        await operator.ensure_collections(documents, chunks, Collection())
        for name in (documents, chunks):
            await operator.create_tenants(name, [CORPUS.tenant])
        headers = {"authorization": f"Bearer {member.api_key}"}
        async with session.get(f"{member.url}/v1/schema/{chunks}", headers=headers) as got:
            schema = await got.json()
        return int(schema["replicationConfig"]["factor"])


async def load(store: WeaviateStore, corpus: Corpus, name: str, text: str) -> Document:
    """Load a document of one chunk, as the ingestion does."""
    now = datetime.now(UTC)
    document = Document(
        document_id=name, version=uuid4().hex, sha256="0" * 64, title="", metadata={},
        chunks=1, bytes=len(text), created_at=now, updated_at=now,
    )  # fmt: skip
    chunk = Chunk(position=0, text=text, heading="", start=0, end=len(text))
    vector = embed(text)
    assert len(vector) == DIMENSIONS
    await store.write_chunks(corpus, document, [chunk], [vector])
    await store.wait_searchable(corpus, document, vector)
    await store.put_document(corpus, document)
    return document


async def finds(store: WeaviateStore, corpus: Corpus, text: str) -> bool:
    found = await store.search(corpus, "Hybrid", text, embed(text), 1)
    return bool(found) and found[0].chunk.text == text


async def test_a_single_member_grows_to_three_live(cluster: WeaviateCluster) -> None:
    early = Corpus(
        documents="EarlyDocuments", chunks="EarlyChunks", tenant="acme", owner=CORPUS.owner
    )
    cluster.grow(1)
    assert await prepare(cluster, early.documents, early.chunks) == 1
    with service(cluster) as store:
        await store.connect()
        await load(store, early, "before", FACTS[0])
        await asyncio.to_thread(cluster.grow, 3)
        assert await finds(store, early, FACTS[0])
        await store.close()
    # the first one is started anew with the others' names, as its StatefulSet's template changes
    await asyncio.to_thread(cluster.restart, 0)
    with service(cluster) as store:
        await store.connect()
        assert await finds(store, early, FACTS[0])
        await store.close()


@pytest.mark.parametrize("lost", [0, 1, 2])
async def test_reads_and_writes_go_on_without_any_one_member(
    cluster: WeaviateCluster, lost: int
) -> None:
    if len(cluster.members) < 3:
        await asyncio.to_thread(cluster.grow, 3)

    async def prepared() -> int | None:
        """there are collections"""
        try:
            return await prepare(cluster, CORPUS.documents, CORPUS.chunks)
        except Retry:
            return None  # as a reconcile, while the members find each other again

    assert await until(prepared, 30) == 3
    with service(cluster) as store:
        await store.connect()
        first = await load(store, CORPUS, "first", FACTS[1])
        member = cluster.members[lost]
        await asyncio.to_thread(member.process.kill)

        async def goes_on() -> Document | None:
            """a document is read and another one written"""
            try:
                assert (await store.documents(CORPUS, ["first"]))["first"].version == first.version
                return await load(store, CORPUS, f"second-{lost}", FACTS[2])
            except Unavailable:
                return None  # what was under way to the lost member

        second = await until(goes_on, 30)
        assert await finds(store, CORPUS, FACTS[2])
        held = await store.documents(CORPUS, ["first", second.document_id])
        assert held[second.document_id].version == second.version
        # a switch while it is away is what everybody sees when it is back
        switched = await load(store, CORPUS, "first", FACTS[1] + " again")
        await asyncio.to_thread(cluster.restart, lost)
        await store.close()
    with service(cluster) as store:
        await store.connect()
        held = await store.documents(CORPUS, ["first", second.document_id])
        assert held["first"].version == switched.version
        assert held[second.document_id].version == second.version
        await store.close()
