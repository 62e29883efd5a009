"""Writes and deletes documents so that a query never sees half of one.

Chunks are written under a new version; one write of the document's own object then switches to it;
the old version's chunks are swept after that. Whatever fails before the switch leaves the old
version visible, and what it leaves behind is swept by the next write.

One writer at a time holds a claim on a document (`claims.py`): sweeping "every version but mine"
would otherwise remove what another writer is about to switch to.
"""

import asyncio
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

from ragtenancy_api.deployment import Chunking
from ragtenancy_api.models import Embedding
from ragtenancy_runtime.admission import Usage
from ragtenancy_runtime.cache.exact import ExactCache
from ragtenancy_runtime.errors import InvalidRequest, NotFound
from ragtenancy_runtime.ingest.chunk import CHUNKER_VERSION, split
from ragtenancy_runtime.ingest.claims import Claim, claimed
from ragtenancy_runtime.ports import Chunk, Document, DocumentStore, Embedder, Scripts, Tokenizer
from ragtenancy_runtime.tenants import Tenant

BATCH: Final = 64
"""Chunks that are embedded and written at once: vLLM batches them, and memory stays bounded."""


@dataclass(frozen=True, slots=True)
class NewDocument:
    """A document as a client sends it."""

    document_id: str
    text: str
    title: str
    metadata: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Written:
    """What writing a document came to."""

    document: Document
    created: bool


@dataclass(frozen=True, slots=True)
class EmbeddingPlan:
    """How a document's text becomes vectors."""

    model: Embedding
    chunking: Chunking
    tokenizer: Tokenizer


def batches(chunks: list[Chunk]) -> Iterator[list[Chunk]]:
    """Chunks in groups that are embedded and written at once."""
    for at in range(0, len(chunks), BATCH):
        yield chunks[at : at + BATCH]


def content_hash(document: NewDocument, model: str, chunking: Chunking) -> str:
    """Hash of all that a document's stored form depends on."""
    parts = [
        document.text,
        document.title,
        document.metadata,
        model,
        chunking.tokens,
        chunking.overlap,
        CHUNKER_VERSION,
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Documents:
    """The documents of tenants."""

    store: DocumentStore
    embedder: Embedder
    state: Scripts
    cache: ExactCache

    async def get(self, tenant: Tenant, document_id: str) -> Document:
        """One document.

        Raises:
            NotFound: There is none of this id.
        """
        found = await self.store.documents(tenant.corpus, [document_id])
        if document_id not in found:
            raise NotFound(f"No document has the id '{document_id}'.", code="document_not_found")
        return found[document_id]

    async def put(
        self,
        tenant: Tenant,
        new: NewDocument,
        embedding: EmbeddingPlan,
        usage: Usage,
    ) -> Written:
        """Write a document, or take over a new text of one. The same content changes nothing.

        What embedding takes is added to `usage` as it happens.

        Raises:
            InvalidRequest: The text holds nothing to search for.
            Conflict: Another writer is at this document.
            Unavailable: A store or the embedding model is away; the old version stays.
        """
        digest = content_hash(new, embedding.model.model, embedding.chunking)
        async with claimed(self.state, tenant.uid, new.document_id) as claim:
            found = await self.store.documents(tenant.corpus, [new.document_id])
            old = found.get(new.document_id)
            if old is not None and old.sha256 == digest:
                return Written(old, created=False)
            chunks = await asyncio.to_thread(
                split,
                new.text,
                embedding.chunking.tokens,
                embedding.chunking.overlap,
                embedding.tokenizer,
            )
            if not chunks:
                raise InvalidRequest("The text is empty.", param="text")
            now = datetime.now(UTC)
            document = Document(
                document_id=new.document_id,
                version=uuid4().hex,
                sha256=digest,
                title=new.title,
                metadata=new.metadata,
                chunks=len(chunks),
                bytes=len(new.text.encode()),
                created_at=old.created_at if old else now,
                updated_at=now,
            )
            for batch in batches(chunks):
                embedded = await self.embedder.embed(
                    embedding.model, [chunk.text for chunk in batch]
                )
                usage.embedding += embedded.tokens
                await self.store.write_chunks(tenant.corpus, document, batch, embedded.vectors)
                await claim.extend()
            await self.store.wait_searchable(tenant.corpus, document, embedded.vectors[-1])
            await claim.extend(switching=True)
            await self.store.put_document(tenant.corpus, document)
            await self._announce(tenant, claim)
            await self._sweep(tenant, new.document_id, document.version, claim)
        return Written(document, created=old is None)

    async def delete(self, tenant: Tenant, document_id: str) -> None:
        """Delete a document.

        Raises:
            NotFound: There is none of this id.
            Conflict: Another writer is at this document.
        """
        async with claimed(self.state, tenant.uid, document_id) as claim:
            await self.get(tenant, document_id)
            await claim.extend(switching=True)
            await self.store.delete_document(tenant.corpus, document_id)
            await self._announce(tenant, claim)
            await self._sweep(tenant, document_id, None, claim)

    async def _announce(self, tenant: Tenant, claim: Claim) -> None:
        """What clients read from now on has changed: no older answer is served again."""
        await claim.announce()
        await self.cache.drop(tenant.uid)

    async def _sweep(
        self, tenant: Tenant, document_id: str, keep_version: str | None, claim: Claim
    ) -> None:
        await claim.extend()
        await self.store.delete_chunks(tenant.corpus, document_id, keep_version)
