"""The one place that talks to Weaviate: collections, and tenants in batches.

The REST API of the schema, by aiohttp: the client library with its gRPC stack costs the operator
44 MB resident and is needed by nothing here (docs/adr/003-weaviate-over-rest.md).
"""

import asyncio
import ssl
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import aiohttp

from ragtenancy_api.stores import Collection
from ragtenancy_api.wiring import CHUNK_PROPERTIES, DOCUMENT_PROPERTIES, OWNER, Property
from ragtenancy_operator.errors import Refused, Retry
from ragtenancy_operator.reach import no_connection

BATCH: Final = 1000
"""Tenants in one request: one raft entry each."""
_UPDATES: Final = 100
"""Tenants in one request that changes them; Weaviate refuses more."""
_COUNTS: Final = 50
"""Counts in one query, which Weaviate makes at the same time."""
_GATHER_SECONDS: Final = 0.02
"""How long a batch waits for more. Ten tenants applied together become one raft entry."""
_UNSETTLED: Final = ("not enough", "rpc error", "leader")
"""In what Weaviate says while its members come and go; its status is that of a bad request."""
_AWAKE: Final = frozenset({"HOT", "ACTIVE"})
_TIMEOUT: Final = aiohttp.ClientTimeout(total=30, connect=3)


def _property(entry: Property) -> dict[str, Any]:
    result: dict[str, Any] = {
        "name": entry.name,
        "dataType": [entry.data_type],
        "indexFilterable": entry.filterable,
    }
    if entry.data_type == "text":
        result["indexSearchable"] = entry.searchable
        if entry.tokenization:
            result["tokenization"] = entry.tokenization
    return result


def collection_schema(
    name: str, properties: Iterable[Property], index: Mapping[str, Any], copies: int = 1
) -> dict[str, Any]:
    """The body that creates a multi-tenant collection.

    Tenants wake on first use, and a write for an unknown one fails, so that a late write cannot
    bring a removed tenant back. Copies that missed a write while their node was away are mended in
    the background; what was deleted meanwhile stays deleted.
    """
    replication: dict[str, Any] = {"factor": copies}
    if copies > 1:
        replication |= {"asyncEnabled": True, "deletionStrategy": "TimeBasedResolution"}
    return {
        "class": name,
        "vectorizer": "none",
        "properties": [_property(entry) for entry in properties],
        "replicationConfig": replication,
        "multiTenancyConfig": {
            "enabled": True,
            "autoTenantCreation": False,
            "autoTenantActivation": True,
        },
        **index,
    }


def default_copies(members: int) -> int:
    """Copies of each shard where nobody says how many: of three, two keep reads and writes up."""
    return 3 if members >= 3 else 1


def vector_index(collection: Collection) -> dict[str, Any]:
    """The vector index of chunks: cosine, as the tenant's shard grows."""
    quantization = {collection.quantization.lower(): {"enabled": True}}
    if collection.quantization == "None":
        quantization = {}
    shape: dict[str, Any] = {"distance": "cosine"}
    if collection.index == "Dynamic":
        shape |= {"hnsw": dict(quantization), "flat": dict(quantization)}
    else:
        shape |= quantization
    return {"vectorIndexType": collection.index.lower(), "vectorIndexConfig": shape}


class NoCollection(Retry):
    """A collection that is not there: it is made by the deployment's next pass."""


class Share(NamedTuple):
    """What one tenant of ours has in a collection: a Weaviate tenant, or a part of a shared one.

    Attributes:
        tenant: The Weaviate tenant.
        owner: Uid that the objects' owner property has; None: the whole tenant.
    """

    tenant: str
    owner: str | None = None

    def arguments(self) -> str:
        """The arguments that select it in a query. Both are names without quotes in them."""
        chosen = f'tenant:"{self.tenant}"'
        if self.owner is not None:
            chosen += f',where:{{path:["{OWNER}"],operator:Equal,valueText:"{self.owner}"}}'
        return chosen


class Weaviate:
    """One Weaviate's schema, and the number of objects.

    Methods raise Retry when it does not answer, and Refused when it will not take the credentials.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        api_key: str | None,
        tls: ssl.SSLContext | None = None,
        copies: int | None = None,
    ) -> None:
        """Take what a deployment says of its Weaviate.

        Args:
            session: The client that requests are made with.
            url: URL of the REST API.
            api_key: Its key, if it asks for one.
            tls: The CAs that alone are trusted; None: the public ones.
            copies: Copies of each shard; None: as many as its members make sense of.
        """
        self._session = session
        self._tls: ssl.SSLContext | bool = True if tls is None else tls
        self._url = url.rstrip("/")
        self._copies = copies
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}

    async def _request(
        self, method: str, path: str, body: Any = None, patience: aiohttp.ClientTimeout = _TIMEOUT
    ) -> tuple[int, Any]:
        try:
            async with self._session.request(
                method,
                f"{self._url}/v1/{path}",
                json=body,
                headers=self._headers,
                timeout=patience,
                ssl=self._tls,
            ) as response:
                answer = await response.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise no_connection(f"Weaviate at {self._url}", error) from error
        except ValueError as error:
            # a proxy in front of a Weaviate that is away answers in HTML
            if response.status >= 500:
                raise Retry(f"Weaviate at {self._url} answered {response.status}") from error
            raise self._stranger() from error
        if response.status in (401, 403):
            raise Refused(
                "CredentialsRefused",
                f"Weaviate at {self._url} refuses the API key (HTTP {response.status})",
            )
        if response.status >= 500:
            raise Retry(f"Weaviate at {self._url} answered {response.status}: {answer}")
        return response.status, answer

    def _stranger(self) -> Refused:
        return Refused("NotWeaviate", f"what answers at {self._url} is no Weaviate")

    async def check(self, seconds: float) -> None:
        """Ask whether this is a Weaviate that takes our key.

        Raises:
            Refused: It is none, or does not take it.
            Unreachable: It did not answer in so many seconds.
        """
        patience = aiohttp.ClientTimeout(total=seconds)
        status, answer = await self._request("GET", "meta", patience=patience)
        if status != 200 or not isinstance(answer, dict) or "modules" not in answer:
            raise self._stranger()

    async def copies(self) -> int:
        """Copies of each shard that a new collection gets."""
        if self._copies is not None:
            return self._copies
        status, answer = await self._request("GET", "nodes")
        return default_copies(len(answer["nodes"]) if status == 200 else 1)

    async def ensure_collections(self, documents: str, chunks: str, collection: Collection) -> bool:
        """Create what is missing of the two collections; says whether anything was."""
        wanted: list[tuple[str, Iterable[Property], Mapping[str, Any]]] = [
            # documents have no vector: a flat index costs nothing
            (documents, DOCUMENT_PROPERTIES, {"vectorIndexType": "flat"}),
            (chunks, CHUNK_PROPERTIES, vector_index(collection)),
        ]
        created = False
        for name, properties, index in wanted:
            status, _ = await self._request("GET", f"schema/{name}")
            if status == 404:
                copies = await self.copies()
                schema = collection_schema(name, properties, index, copies)
                status, answer = await self._request("POST", "schema", schema)
                if status >= 400 and any(sign in str(answer) for sign in _UNSETTLED):
                    raise Retry(f"Weaviate takes no collection of {copies} copies yet: {answer}")
                if status >= 400:
                    raise Refused("CollectionRefused", f"Weaviate refuses the collection: {answer}")
                created = True
        return created

    async def tenants(self, collection: str) -> dict[str, bool]:
        """Every tenant of a collection, and whether it is active.

        Raises:
            NoCollection: There is no such collection.
        """
        status, answer = await self._request("GET", f"schema/{collection}/tenants")
        if status == 404 or (status == 422 and "class not found" in str(answer)):
            raise NoCollection(f"Weaviate has no collection {collection}")
        if status >= 400:
            raise Retry(f"Weaviate answered {status}: {answer}")
        return {tenant["name"]: tenant["activityStatus"] in _AWAKE for tenant in answer or ()}

    async def deactivate(self, collection: str, names: Sequence[str]) -> None:
        """Put tenants to sleep: their shards are closed until somebody asks."""
        for at in range(0, len(names), _UPDATES):
            body = [
                {"name": name, "activityStatus": "INACTIVE"} for name in names[at : at + _UPDATES]
            ]
            status, answer = await self._request("PUT", f"schema/{collection}/tenants", body)
            if status >= 400:
                raise Retry(f"Weaviate puts no tenants to sleep ({status}): {answer}")

    async def counts(self, collection: str, shares: Sequence[Share]) -> dict[Share, int]:
        """How many objects each share has; one that could not be counted is left out.

        A tenant that sleeps is woken by this.
        """
        found: dict[Share, int] = {}
        for at in range(0, len(shares), _COUNTS):
            asked = shares[at : at + _COUNTS]
            query = " ".join(
                f"a{number}:{collection}({share.arguments()}){{meta{{count}}}}"
                for number, share in enumerate(asked)
            )
            status, answer = await self._request(
                "POST", "graphql", {"query": f"{{Aggregate{{{query}}}}}"}
            )
            if status >= 400:
                raise Retry(f"Weaviate counts nothing ({status}): {answer}")
            groups = (answer.get("data") or {}).get("Aggregate") or {}
            for number, share in enumerate(asked):
                if group := groups.get(f"a{number}"):
                    found[share] = int(group[0]["meta"]["count"])
        return found

    async def create_tenants(self, collection: str, names: Sequence[str]) -> None:
        """Create tenants, inactive; those that are there are left as they are."""
        body = [{"name": name, "activityStatus": "INACTIVE"} for name in names]
        status, answer = await self._request("POST", f"schema/{collection}/tenants", body)
        if status >= 400:
            raise Retry(f"Weaviate refuses {len(names)} tenants ({status}): {answer}")

    async def delete_tenants(self, collection: str, names: Sequence[str]) -> None:
        """Delete tenants with all they hold; those that are gone are no error."""
        status, answer = await self._request("DELETE", f"schema/{collection}/tenants", list(names))
        if status >= 400 and status != 404:
            raise Retry(f"Weaviate refuses to delete {len(names)} tenants ({status}): {answer}")

    async def delete_objects(
        self, collection: str, tenant: str, property_: str, value: str
    ) -> None:
        """Delete the objects of a tenant whose property has a value, batch by batch, to the last.

        A collection or a tenant that is gone is no error.
        """
        condition = {"path": [property_], "operator": "Equal", "valueText": value}
        body = {"match": {"class": collection, "where": condition}, "output": "minimal"}
        while True:
            status, answer = await self._request("DELETE", f"batch/objects?tenant={tenant}", body)
            if status in (404, 422) and "not found" in str(answer):
                return
            if status >= 400:
                raise Retry(f"Weaviate refuses to delete objects ({status}): {answer}")
            results = answer["results"]
            if results["failed"]:
                raise Retry(f"Weaviate did not delete {results['failed']} objects")
            if not results["matches"]:
                return

    async def delete_collection(self, collection: str) -> None:
        """Delete a collection; one that is gone is no error."""
        status, answer = await self._request("DELETE", f"schema/{collection}")
        if status >= 400 and status != 404:
            raise Retry(f"Weaviate refuses to delete {collection} ({status}): {answer}")


class TenantBatches:
    """Creates and deletes tenants of a pair of collections, gathered across reconciles."""

    def __init__(self, client: Weaviate, collections: Sequence[str]) -> None:
        self._client = client
        self._collections = tuple(collections)
        self._known: set[str] | None = None
        self._halves: set[str] = set()
        self._creating: dict[str, asyncio.Future[None]] = {}
        self._deleting: dict[str, asyncio.Future[None]] = {}
        self._flush: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()

    def forget(self) -> None:
        """Ask Weaviate anew which tenants it has: some are not there that should be."""
        self._known = None

    async def lacks(self, name: str) -> bool:
        """Whether the tenant is missing in any of the collections."""
        if self._known is None:
            async with self._lock:
                if self._known is None:
                    held = [set(await self._client.tenants(name)) for name in self._collections]
                    self._known = set.intersection(*held)
                    self._halves = set.union(*held) - self._known
        return name not in self._known

    async def ensure(self, name: str) -> None:
        """Have the tenant in every collection."""
        if await self.lacks(name):
            if name in self._halves:
                # Documents without chunks are found by nobody, and would keep themselves from
                # being loaded again: their content has not changed.
                await self.remove(name)
            await self._join(self._creating, name)

    async def remove(self, name: str) -> None:
        """Have the tenant in no collection."""
        await self._join(self._deleting, name)

    async def _join(self, batch: dict[str, asyncio.Future[None]], name: str) -> None:
        if name not in batch:
            batch[name] = asyncio.get_running_loop().create_future()
        if self._flush is None:
            self._flush = asyncio.create_task(self._run(), name="weaviate-tenants")
        # a reconcile that is cancelled must not cancel the batch that others share
        await asyncio.shield(batch[name])

    async def _run(self) -> None:
        try:
            while self._creating or self._deleting:
                await asyncio.sleep(_GATHER_SECONDS)
                await self._send(self._deleting, self._client.delete_tenants, created=False)
                await self._send(self._creating, self._client.create_tenants, created=True)
        finally:
            self._flush = None

    async def _send(
        self, batch: dict[str, asyncio.Future[None]], send: Any, *, created: bool
    ) -> None:
        taken = dict(list(batch.items())[:BATCH])
        if not taken:
            return
        for name in taken:
            del batch[name]
        try:
            # nobody is to ask which tenants there are while some are in one collection only
            async with self._lock:
                for collection in self._collections:
                    await send(collection, list(taken))
                if self._known is not None:
                    known = self._known | set(taken) if created else self._known - set(taken)
                    self._known, self._halves = known, self._halves - set(taken)
        except BaseException as error:
            failure = error if isinstance(error, Exception) else Retry("the operator is stopping")
            for future in taken.values():
                if not future.done():
                    future.set_exception(failure)
                    future.exception()  # seen: a waiter that was cancelled reads it no more
            if not isinstance(error, Exception):
                raise
        else:
            for future in taken.values():
                if not future.done():
                    future.set_result(None)
