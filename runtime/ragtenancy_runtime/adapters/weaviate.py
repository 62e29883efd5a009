"""Weaviate: documents and chunks of tenants, in the collections that their placement names."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit
from uuid import UUID, uuid5

import aiohttp
import grpc
import httpx
import weaviate
from weaviate.classes.config import ConsistencyLevel
from weaviate.classes.data import DataObject
from weaviate.classes.init import AdditionalConfig, Auth, GrpcConfig, Timeout
from weaviate.classes.query import Filter, FilterReturn, HybridFusion, MetadataQuery
from weaviate.collections import CollectionAsync
from weaviate.exceptions import WeaviateBaseError

from ragtenancy_api.wiring import OWNER
from ragtenancy_runtime.errors import Unavailable
from ragtenancy_runtime.ports import Chunk, Corpus, Document, FoundChunk, RetrievalMode

QUERY_S: Final = 4.0
"""The client itself would retry for a minute, and somebody waits for 5 s. A shard that is put to
sleep while queries are in it keeps new ones waiting for 2 s, until Weaviate gives up on it."""
WRITE_S: Final = 30.0
_NAMESPACE: Final = UUID("5c1e6ed5-9b29-44a5-8f1d-5d7b4ef3f9a1")
_INDEX_POLL_S: Final = 0.05
_MAX_SWEEPS: Final = 1000
_WAKE_WAITS_S: Final = (0.02, 0.05, 0.1, 0.2, 0.4)
_ASLEEP: Final = (
    "bucket already registered",
    "shard shutdown in progress",
    "already shut or dropped",
    "tenant not active",
    "shard not found",
)
"""What Weaviate says (lsmkv/global_bucket_registry.go, db/shard.go) when a request meets its tenant
while that is put to sleep. It holds for milliseconds; the next request wakes the tenant."""
_CHUNK_PROPERTIES: Final = [
    "document_id", "version", "position", "text", "heading", "start", "end", "title",
]  # fmt: skip
_CHANNEL_OPTIONS: Final = [
    # A Weaviate that comes back is found within a second, not after gRPC's two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 5_000),
]

_T = TypeVar("_T")


def object_id(corpus: Corpus, *parts: str) -> UUID:
    """Id of a tenant's object, from parts that no other parts can be mistaken for.

    In a shared Weaviate tenant the owner is one of them: a write there takes the place of what has
    the same id, whosever it is.
    """
    whose = (corpus.tenant, corpus.owner) if corpus.shared else (corpus.tenant,)
    return uuid5(_NAMESPACE, json.dumps((*whose, *parts)))


def owned(corpus: Corpus, where: FilterReturn | None = None) -> FilterReturn | None:
    """A filter that lets only the tenant's own objects through; None where there are no others."""
    if not corpus.shared:
        return where
    own = Filter.by_property(OWNER).equal(corpus.owner)
    return own if where is None else own & where


def document_properties(corpus: Corpus, document: Document) -> dict[str, Any]:
    """A document as its object holds it."""
    return {
        OWNER: corpus.owner,
        "document_id": document.document_id,
        "version": document.version,
        "sha256": document.sha256,
        "title": document.title,
        "metadata": json.dumps(document.metadata),
        "chunks": document.chunks,
        "bytes": document.bytes,
        "created_at": document.created_at,
        "updated_at": document.updated_at,
    }


def document_of(properties: dict[str, Any]) -> Document:
    """The document that an object holds."""
    return Document(
        document_id=properties["document_id"],
        version=properties["version"],
        sha256=properties["sha256"],
        title=properties["title"] or "",
        metadata=json.loads(properties["metadata"]),
        chunks=int(properties["chunks"]),
        bytes=int(properties["bytes"]),
        created_at=properties["created_at"],
        updated_at=properties["updated_at"],
    )


def found_of(uuid: Any, properties: dict[str, Any], score: float) -> FoundChunk:
    """The chunk that an object holds."""
    return FoundChunk(
        chunk_id=str(uuid),
        document_id=properties["document_id"],
        version=properties["version"],
        score=score,
        chunk=Chunk(
            position=int(properties["position"]),
            text=properties["text"],
            heading=properties["heading"] or "",
            start=int(properties["start"]),
            end=int(properties["end"]),
        ),
        title=properties["title"] or "",
    )


@asynccontextmanager
async def _bounded(seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except (WeaviateBaseError, TimeoutError, OSError) as error:
        raise Unavailable("vector store") from error


async def _ask(seconds: float, request: Callable[[], Awaitable[_T]]) -> _T:
    """What Weaviate answers, within a time; asked again when the tenant was being put to sleep.

    Every request may be made twice: objects have ids of their own, and removing is repeatable.
    """
    async with _bounded(seconds):
        for wait in _WAKE_WAITS_S:
            try:
                return await request()
            except WeaviateBaseError as error:
                if not any(sign in error.message for sign in _ASLEEP):
                    raise
                await asyncio.sleep(wait)
        return await request()


def _trust(client: weaviate.WeaviateAsyncClient, authority: Path) -> None:
    """Have the client verify the REST API's certificate by these CAs.

    weaviate-client takes CAs for gRPC alone; for REST it would take them from SSL_CERT_FILE, which
    is the whole process's. So the one method that makes its HTTP client is replaced. The tests
    with TLS fail when a version of the client does without it.
    """
    context = ssl.create_default_context(cafile=authority)
    connection: Any = client._connection

    def make_client(_: str) -> httpx.AsyncClient:
        return httpx.AsyncClient(headers=connection._headers, verify=context, trust_env=False)

    connection._make_client = make_client


class WeaviateStore:
    """One Weaviate, through one client for the whole process."""

    def __init__(
        self, http_url: str, grpc_url: str, api_key: str | None, authority: Path | None = None
    ) -> None:
        """Take the URLs, the key, and the CAs (PEM) that alone are trusted; None: public ones."""
        http, grpc_ = urlsplit(http_url), urlsplit(grpc_url)
        self._client = weaviate.use_async_with_custom(
            http_host=http.hostname or "",
            http_port=http.port or (443 if http.scheme == "https" else 80),
            http_secure=http.scheme == "https",
            grpc_host=grpc_.hostname or "",
            grpc_port=grpc_.port or 50051,
            grpc_secure=grpc_.scheme == "grpcs",
            auth_credentials=Auth.api_key(api_key) if api_key else None,
            additional_config=AdditionalConfig(
                timeout=Timeout(init=2, query=QUERY_S, insert=WRITE_S),
                grpc_config=GrpcConfig(
                    channel_options=_CHANNEL_OPTIONS,
                    credentials=grpc.ssl_channel_credentials(authority.read_bytes())
                    if authority
                    else None,
                ),
            ),
            skip_init_checks=True,
        )
        if authority is not None:
            _trust(self._client, authority)
        self._url = http_url.rstrip("/")
        self._headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        self._authority = authority
        self._rest: aiohttp.ClientSession | None = None
        self._factors: dict[str, int] = {}

    async def connect(self) -> None:
        """Make the first connection.

        Raises:
            Unavailable: Weaviate is away; call it again.
        """
        async with _bounded(QUERY_S):
            await self._client.connect()
            if self._rest is None:
                tls = (
                    ssl.create_default_context(cafile=self._authority) if self._authority else True
                )
                self._rest = aiohttp.ClientSession(
                    headers=self._headers,
                    connector=aiohttp.TCPConnector(limit=0, ssl=tls),
                    timeout=aiohttp.ClientTimeout(total=QUERY_S),
                )
            if not await self._client.is_ready():
                raise Unavailable("vector store")

    async def close(self) -> None:
        """Close every connection."""
        await self._client.close()
        if self._rest is not None:
            await self._rest.close()

    def _collection(
        self, name: str, corpus: Corpus, level: ConsistencyLevel = ConsistencyLevel.QUORUM
    ) -> "CollectionAsync[Any, Any]":
        """One tenant's part of a collection.

        Of three copies two have a write before it is confirmed, and two are asked when documents
        are read by their ids: one of them was written, so a document that was switched is seen
        switched by every pod. A search asks one copy: a second would only be compared by what the
        first one found, at the price of a round trip. What it finds of another version than the
        document's is dropped; a copy that was away may find less until it has caught up.
        """
        if not self._client.is_connected():
            raise Unavailable("vector store")
        return (
            self._client.collections.use(name)
            .with_tenant(corpus.tenant)
            .with_consistency_level(level)
        )

    async def search(
        self,
        corpus: Corpus,
        mode: RetrievalMode,
        query: str,
        vector: Sequence[float] | None,
        limit: int,
    ) -> list[FoundChunk]:
        """The chunks nearest to a query, best first."""
        collection = self._collection(corpus.chunks, corpus, ConsistencyLevel.ONE)
        common: dict[str, Any] = {
            "filters": owned(corpus),
            "limit": limit,
            "return_properties": _CHUNK_PROPERTIES,
            "return_metadata": MetadataQuery(score=True, distance=True),
        }
        near: Any = list(vector) if vector is not None else None
        ask: Callable[[], Awaitable[Any]]
        if mode == "Vector":
            ask = partial(collection.query.near_vector, near_vector=near, **common)
        elif mode == "Keyword":
            ask = partial(collection.query.bm25, query=query, **common)
        else:
            fused = {"vector": near, "fusion_type": HybridFusion.RELATIVE_SCORE}
            ask = partial(collection.query.hybrid, query=query, **fused, **common)
        found = await _ask(QUERY_S, ask)
        return [
            found_of(
                entry.uuid,
                entry.properties,
                1 - (entry.metadata.distance or 0.0)
                if mode == "Vector"
                else entry.metadata.score or 0.0,
            )
            for entry in found.objects
        ]

    async def documents(self, corpus: Corpus, document_ids: Sequence[str]) -> dict[str, Document]:
        """Those of the documents that exist, by id.

        Where there are several copies each is read by its id: only that asks two of them. A query
        looks into one, and answers with what that has even if it finds out that it is old.
        """
        ids = [object_id(corpus, document_id) for document_id in document_ids]
        if await self._copies(corpus.documents) > 1:
            reads = (self._read(corpus, uuid) for uuid in ids)
            found = [properties for properties in await asyncio.gather(*reads) if properties]
        else:
            collection = self._collection(corpus.documents, corpus)
            where = owned(corpus, Filter.by_id().contains_any(ids))
            fetch = partial(collection.query.fetch_objects, filters=where, limit=len(ids))
            answer = await _ask(QUERY_S, fetch)
            found = [dict(entry.properties) for entry in answer.objects]
        documents = [document_of(properties) for properties in found]
        return {document.document_id: document for document in documents}

    async def _copies(self, collection: str) -> int:
        """Copies of each shard of a collection; they do not change while it is there."""
        if collection not in self._factors:
            schema = await self._get(f"schema/{collection}", {})
            if schema is None:
                raise Unavailable("vector store")
            self._factors[collection] = int(schema["replicationConfig"]["factor"])
        return self._factors[collection]

    async def _read(self, corpus: Corpus, uuid: UUID) -> dict[str, Any] | None:
        """The properties of a document's object, as most of its copies have it."""
        where = {"tenant": corpus.tenant, "consistency_level": "QUORUM"}
        held = await self._get(f"objects/{corpus.documents}/{uuid}", where)
        if held is None:
            return None
        properties: dict[str, Any] = held["properties"]
        times = {n: datetime.fromisoformat(properties[n]) for n in ("created_at", "updated_at")}
        return properties | times

    async def _get(self, path: str, query: Mapping[str, str]) -> dict[str, Any] | None:
        """What the REST API answers; None when there is nothing."""
        if self._rest is None:
            raise Unavailable("vector store")
        try:
            async with self._rest.get(f"{self._url}/v1/{path}", params=query) as answer:
                if answer.status == 404:
                    return None
                if answer.status != 200:
                    raise Unavailable("vector store")
                body: dict[str, Any] = await answer.json()
                return body
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise Unavailable("vector store") from error

    async def write_chunks(
        self,
        corpus: Corpus,
        document: Document,
        chunks: Sequence[Chunk],
        vectors: Sequence[Sequence[float]],
    ) -> None:
        """Write chunks of a version that no query sees yet."""
        collection = self._collection(corpus.chunks, corpus)
        objects = [
            DataObject(
                uuid=object_id(corpus, document.document_id, document.version, str(chunk.position)),
                properties={
                    OWNER: corpus.owner,
                    "document_id": document.document_id,
                    "version": document.version,
                    "position": chunk.position,
                    "text": chunk.text,
                    "heading": chunk.heading,
                    "start": chunk.start,
                    "end": chunk.end,
                    "title": document.title,
                },
                vector=list(vector),
            )
            for chunk, vector in zip(chunks, vectors, strict=True)
        ]
        await self._insert(collection, objects)

    async def wait_searchable(
        self, corpus: Corpus, document: Document, vector: Sequence[float]
    ) -> None:
        """Wait until every chunk of a version can be found by its vector.

        With asynchronous indexing (which a dynamic index needs) that takes up to a second after
        the write; before it, a switched document would be seen in part.
        """
        collection = self._collection(corpus.chunks, corpus)
        where = owned(corpus, Filter.by_property("version").equal(document.version))
        find = partial(
            collection.query.near_vector,
            near_vector=list(vector),
            filters=where,
            limit=document.chunks,
            return_properties=[],
        )
        async with _bounded(WRITE_S):
            while True:
                found = await _ask(QUERY_S, find)
                if len(found.objects) >= document.chunks:
                    return
                await asyncio.sleep(_INDEX_POLL_S)

    async def put_document(self, corpus: Corpus, document: Document) -> None:
        """Write the document's own object, in one write."""
        collection = self._collection(corpus.documents, corpus)
        uuid = object_id(corpus, document.document_id)
        properties = document_properties(corpus, document)
        await self._insert(collection, [DataObject(uuid=uuid, properties=properties)])

    async def _insert(
        self, collection: "CollectionAsync[Any, Any]", objects: list[DataObject[Any, Any]]
    ) -> None:
        async def insert() -> None:
            result = await collection.data.insert_many(objects)
            if result.has_errors:
                raise WeaviateBaseError(next(iter(result.errors.values())).message)

        await _ask(WRITE_S, insert)

    async def delete_document(self, corpus: Corpus, document_id: str) -> None:
        """Remove the document's own object."""
        collection = self._collection(corpus.documents, corpus)
        await self._delete(collection, corpus, Filter.by_id().equal(object_id(corpus, document_id)))

    async def delete_chunks(
        self, corpus: Corpus, document_id: str, keep_version: str | None
    ) -> None:
        """Remove every chunk of a document except those of one version."""
        collection = self._collection(corpus.chunks, corpus)
        where: FilterReturn = Filter.by_property("document_id").equal(document_id)
        if keep_version is not None:
            where &= Filter.by_property("version").not_equal(keep_version)
        await self._delete(collection, corpus, where)

    async def _delete(
        self, collection: "CollectionAsync[Any, Any]", corpus: Corpus, where: FilterReturn
    ) -> None:
        """Remove everything that is the tenant's and matches."""
        own: Any = owned(corpus, where)
        for _ in range(_MAX_SWEEPS):
            result = await _ask(WRITE_S, partial(collection.data.delete_many, where=own))
            if result.failed:
                raise Unavailable("vector store")
            if not result.matches:
                return
