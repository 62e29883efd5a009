"""Search in a tenant's documents, of which it sees only current versions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ragtenancy_api.models import Embedding
from ragtenancy_runtime import tracing
from ragtenancy_runtime.ports import (
    Attribute,
    Corpus,
    Document,
    DocumentStore,
    Embedder,
    FoundChunk,
    RetrievalMode,
    Tokenizer,
    Tracer,
)
from ragtenancy_runtime.prompt import Source
from ragtenancy_runtime.tracing import NO_TRACES, step


@dataclass(frozen=True, slots=True)
class Found:
    """Chunks of current versions, best first, and what embedding the query took."""

    chunks: list[FoundChunk]
    documents: dict[str, Document]
    embedding_tokens: int = 0


def current(chunks: Sequence[FoundChunk], documents: dict[str, Document]) -> list[FoundChunk]:
    """Those chunks whose version is the one that their document shows."""
    return [
        chunk
        for chunk in chunks
        if (document := documents.get(chunk.document_id)) is not None
        and document.version == chunk.version
    ]


def first_tokens(text: str, limit: int, tokenizer: Tokenizer) -> str:
    """As much of a text's beginning as an embedding model takes."""
    room = max(1, limit - tokenizer.special)
    if tokenizer.counts([text])[0] <= room:
        return text
    return text[: tokenizer.offsets(text)[room - 1][1]]


@dataclass(frozen=True, slots=True)
class Search:
    """Embeds queries and asks the store."""

    embedder: Embedder
    store: DocumentStore
    tracer: Tracer = NO_TRACES

    async def find(
        self, corpus: Corpus, mode: RetrievalMode, model: Embedding, query: str, top_k: int
    ) -> Found:
        """The chunks nearest to a query.

        Raises:
            Unavailable: The embedding model or the store is away.
        """
        vector: list[float] | None = None
        tokens = 0
        if mode in {"Hybrid", "Vector"}:
            embeddings = await self.embedder.embed(model, [query])
            vector, tokens = embeddings.vectors[0], embeddings.tokens
        asked: dict[str, Attribute] = {
            tracing.OPERATION: "retrieval",
            tracing.MODE: mode,
            tracing.TOP_K: top_k,
            "db.system.name": "weaviate",
        }
        with step(self.tracer, "retrieval", asked) as span:
            kept, documents = await self._current(corpus, mode, query, vector, top_k)
            span.set({tracing.FOUND: len(kept)})
        return Found(kept, documents, tokens)

    async def _current(
        self,
        corpus: Corpus,
        mode: RetrievalMode,
        query: str,
        vector: Sequence[float] | None,
        top_k: int,
    ) -> tuple[list[FoundChunk], dict[str, Document]]:
        """The chunks of current versions nearest to a query, and their documents.

        A document that is switched between the two reads would be missing from both its versions:
        when a chunk turns out stale, the search is made once more.
        """
        limit = top_k
        for attempt in range(2):
            chunks = await self.store.search(corpus, mode, query, vector, limit)
            names = list(dict.fromkeys(chunk.document_id for chunk in chunks))
            documents = await self.store.documents(corpus, names) if names else {}
            kept = current(chunks, documents)
            if len(kept) == len(chunks) or attempt:
                break
            limit = top_k * 2 + len(chunks) - len(kept)
        return kept[:top_k], documents


def source_url(document: Document) -> str:
    """Where a reader finds a document: the `url` of its metadata, or the API's own path."""
    url = document.metadata.get("url")
    return url if isinstance(url, str) else f"/v1/documents/{document.document_id}"


def sources_of(found: Found) -> list[Source]:
    """The found chunks as sources of a prompt."""
    return [
        Source(
            document_id=chunk.document_id,
            chunk_id=chunk.chunk_id,
            score=chunk.score,
            title=chunk.title,
            heading=chunk.chunk.heading,
            text=chunk.chunk.text,
            start=chunk.chunk.start,
            end=chunk.chunk.end,
            url=source_url(found.documents[chunk.document_id]),
        )
        for chunk in found.chunks
    ]


def result_of(chunk: FoundChunk, document: Document) -> dict[str, Any]:
    """One result of `POST /v1/search`."""
    return {
        "document_id": chunk.document_id,
        "chunk_id": chunk.chunk_id,
        "score": chunk.score,
        "text": chunk.chunk.text,
        "title": chunk.title,
        "heading": chunk.chunk.heading,
        "page": None,
        "start": chunk.chunk.start,
        "end": chunk.chunk.end,
        "metadata": document.metadata,
    }
