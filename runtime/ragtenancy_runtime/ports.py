"""What the runtime needs from outside, as protocols. `adapters/` implements them."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

from ragtenancy_api.api import JWTAuth
from ragtenancy_api.models import Embedding

Message = dict[str, Any]
"""One chat message in OpenAI's shape, its content a string."""
RetrievalMode = Literal["Hybrid", "Vector", "Keyword", "None"]


Attribute = str | int | float | Sequence[str]
"""What a span may say of something."""


class Span(Protocol):
    """A request, or a step of one, as traces show it."""

    def set(self, attributes: Mapping[str, Attribute]) -> None:
        """Say more of it."""
        ...

    def fail(self, kind: str) -> None:
        """It failed, with an error of this kind."""
        ...

    def end(self) -> None:
        """It is over."""
        ...


class Tracer(Protocol):
    """Traces requests. It never waits and never fails."""

    def request(self, route: str, headers: Mapping[str, str]) -> AbstractContextManager[Span]:
        """The span of a request, for the length of a block: steps that start in it are its own."""
        ...

    def start(self, name: str, attributes: Mapping[str, Attribute]) -> Span:
        """A step of the request that this task answers."""
        ...


class TokenVerifier(Protocol):
    """Verifies tokens of an issuer that the platform trusts."""

    async def tenant_claim(self, trusted: JWTAuth, token: str) -> str:
        """What a valid token's tenant claim says.

        Raises:
            Unauthenticated: The token is not valid.
            Unavailable: The issuer is away, and its keys were never here.
        """
        ...


class Tokenizer(Protocol):
    """Splits text as a model does. Counts are upper bounds where the model's own is unknown."""

    special: int
    """Tokens that the model adds around every text."""

    def counts(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, without special ones."""
        ...

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """Character span (start, end) of each token, in order."""
        ...


class ChatTokenizer(Protocol):
    """Counts the tokens of a conversation as the chat model will see it."""

    worst: int
    """Tokens that one counted token of plain text may really be; 1 with the model's own tokenizer,
    whose counts can then be held against its context window."""

    def count(self, text: str) -> int:
        """Tokens of a text, without special ones; an estimate where `worst` is not 1."""
        ...

    def prompt_tokens(self, messages: Sequence[Message], tools: list[Any] | None = None) -> int:
        """Tokens of the rendered conversation, an upper bound."""
        ...


class Scripts(Protocol):
    """A Redis that runs the Lua files of `lua/` by name."""

    async def run(self, name: str, keys: Sequence[str], args: Sequence[str | bytes | int]) -> Any:
        """Run one script, atomically.

        Raises:
            Unavailable: Redis did not answer in time.
        """
        ...

    async def hash_field(self, key: str, field: str) -> bytes | None:
        """One field of a hash."""
        ...

    async def hash_fields(self, key: str) -> dict[bytes, bytes]:
        """A whole hash."""
        ...


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Vectors in the order of their texts, and the tokens that the server counted."""

    vectors: list[list[float]]
    tokens: int


class Embedder(Protocol):
    """Turns texts into vectors."""

    async def embed(self, model: Embedding, texts: Sequence[str]) -> Embeddings:
        """Embed texts in one call.

        Raises:
            Unavailable: The server is away, or its vectors have not the model's dimensions.
        """
        ...


@dataclass(frozen=True, slots=True)
class Document:
    """A document as its own object records it."""

    document_id: str
    version: str
    sha256: str
    title: str
    metadata: dict[str, Any]
    chunks: int
    bytes: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a document's text; `start` and `end` count its characters."""

    position: int
    text: str
    heading: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class FoundChunk:
    """A chunk that a search found."""

    chunk_id: str
    document_id: str
    version: str
    score: float
    chunk: Chunk
    title: str


@dataclass(frozen=True, slots=True)
class Corpus:
    """Where a tenant's documents are."""

    documents: str
    """Collection of documents."""
    chunks: str
    """Collection of chunks."""
    tenant: str
    """Weaviate tenant in both."""
    owner: str
    """Written with every object: whose it is."""
    shared: bool = False
    """Whether others' objects lie in the same Weaviate tenant: all that is read, changed or removed
    is then filtered by the owner."""


class DocumentStore(Protocol):
    """Documents and chunks of tenants. Every method raises Unavailable when the store is away."""

    async def search(
        self,
        corpus: Corpus,
        mode: RetrievalMode,
        query: str,
        vector: Sequence[float] | None,
        limit: int,
    ) -> list[FoundChunk]:
        """The chunks nearest to a query, best first, whatever their version."""
        ...

    async def documents(self, corpus: Corpus, document_ids: Sequence[str]) -> dict[str, Document]:
        """Those of the documents that exist, by id."""
        ...

    async def write_chunks(
        self,
        corpus: Corpus,
        document: Document,
        chunks: Sequence[Chunk],
        vectors: Sequence[Sequence[float]],
    ) -> None:
        """Write chunks of a version that no query sees yet."""
        ...

    async def wait_searchable(
        self, corpus: Corpus, document: Document, vector: Sequence[float]
    ) -> None:
        """Wait until a search can find every chunk of a version; `vector` is one of theirs."""
        ...

    async def put_document(self, corpus: Corpus, document: Document) -> None:
        """Write the document's own object: from now on queries see its version."""
        ...

    async def delete_document(self, corpus: Corpus, document_id: str) -> None:
        """Remove the document's own object: from now on queries do not see it."""
        ...

    async def delete_chunks(
        self, corpus: Corpus, document_id: str, keep_version: str | None
    ) -> None:
        """Remove every chunk of a document except those of one version."""
        ...


class AnswerStream(Protocol):
    """A streamed answer of a model's server."""

    def events(self) -> AsyncGenerator[list[bytes], None]:
        """The data of its server-sent events, in batches as they arrive, `[DONE]` included.

        Raises:
            UpstreamFailed: The server broke off.
        """
        ...

    def close(self) -> None:
        """Close the connection, so that the server stops generating."""
        ...


class Generator(Protocol):
    """An OpenAI-compatible chat server."""

    async def complete(self, payload: bytes) -> dict[str, Any]:
        """A whole chat completion.

        Raises:
            Unavailable: The server is away or overloaded.
            InvalidRequest: The server refuses the request itself.
        """
        ...

    async def stream(self, payload: bytes) -> AnswerStream:
        """Start a streamed completion; returns once the server has accepted it.

        Raises as `complete` does.
        """
        ...
