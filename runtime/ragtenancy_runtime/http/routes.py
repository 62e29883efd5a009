"""The routes under /v1: translation between HTTP and the runtime's own calls."""

import json
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, NamedTuple
from urllib.parse import unquote
from uuid import uuid4

from ragtenancy_api.settings import Role
from ragtenancy_runtime.admission import Admission
from ragtenancy_runtime.errors import NotFound, PayloadTooLarge, RequestError
from ragtenancy_runtime.http import sse
from ragtenancy_runtime.http.call import Call
from ragtenancy_runtime.http.chat import question_of
from ragtenancy_runtime.http.errors import body_of, limit_headers
from ragtenancy_runtime.http.payloads import (
    ChatRequest,
    DocumentRequest,
    SearchRequest,
    parse,
)
from ragtenancy_runtime.ingest.documents import Documents, EmbeddingPlan, NewDocument
from ragtenancy_runtime.pipeline import Pipeline
from ragtenancy_runtime.ports import Document
from ragtenancy_runtime.retrieval.search import first_tokens, result_of
from ragtenancy_runtime.tenants import Directory
from ragtenancy_runtime.turn import Turn

MODEL_ALIAS: Final = "default"
CHAT_BODY_BYTES: Final = 8_388_608
SEARCH_BODY_BYTES: Final = 262_144
_ESCAPED: Final = 3
"""How many times larger than its text a document's body may be: JSON escapes, and metadata."""


def document_object(document: Document) -> dict[str, Any]:
    """A document as clients see it."""
    return {
        "id": document.document_id,
        "object": "document",
        "version": document.version,
        "status": "ready",
        "title": document.title,
        "metadata": document.metadata,
        "chunks": document.chunks,
        "bytes": document.bytes,
        "created_at": int(document.created_at.timestamp()),
        "updated_at": int(document.updated_at.timestamp()),
    }


def usage_object(days: dict[int, dict[str, int]]) -> dict[str, Any]:
    """The ledger as clients see it, newest day first."""
    epoch = date(1970, 1, 1)
    return {
        "object": "list",
        "data": [
            {
                "date": (epoch + timedelta(days=day)).isoformat(),
                "requests": kinds.get("requests", 0),
                "prompt_tokens": kinds.get("prompt", 0),
                "cached_prompt_tokens": kinds.get("cached", 0),
                "completion_tokens": kinds.get("completion", 0),
                "embedding_tokens": kinds.get("embedding", 0),
            }
            for day, kinds in sorted(days.items(), reverse=True)
        ],
    }


@dataclass(frozen=True, slots=True)
class Routes:
    """The handlers of all routes under /v1."""

    directory: Directory
    admission: Admission
    pipeline: Pipeline
    documents: Documents
    started: datetime

    async def chat(self, call: Call) -> None:
        """`POST /v1/chat/completions`."""
        tenant = call.tenant
        request = parse(ChatRequest, await call.body(CHAT_BODY_BYTES))
        self._check_model(request.model)
        question = question_of(request)
        async with (
            call.watched(),
            self.pipeline.turn(tenant, question, call.request_id) as turn,
        ):
            call.log["cache"] = turn.cache
            call.log["turn"] = turn
            headers = {"x-ragtenancy-cache": turn.cache, **limit_headers(turn.limits)}
            if question.stream:
                await self._stream(call, turn, headers)
            else:
                await call.respond(200, await self.pipeline.whole(turn), headers)

    async def _stream(self, call: Call, turn: Turn, headers: dict[str, str]) -> None:
        """Relay a streamed answer. Its head goes out when the chat server has accepted it."""
        upstream = await self.pipeline.open(turn)
        await call.start_stream(headers)
        try:
            async with aclosing(self.pipeline.chunks(turn, upstream)) as batches:
                async for batch in batches:
                    await call.write(sse.frames(batch))
        except RequestError as error:
            call.log["failure"] = getattr(error, "reason", error.code)
            await call.end_stream(sse.frames([body_of(error)]))
        else:
            await call.end_stream(sse.DONE)

    async def search(self, call: Call) -> None:
        """`POST /v1/search`."""
        tenant = call.tenant
        request = parse(SearchRequest, await call.body(SEARCH_BODY_BYTES))
        retrieval, quotas = tenant.settings.retrieval, tenant.settings.quotas
        mode = request.mode or ("Hybrid" if retrieval.mode == "None" else retrieval.mode)
        embedding = self.directory.deployment.embedding
        tokenizer = self.pipeline.tokenizers.embedding(embedding.model)
        query = first_tokens(request.query, embedding.max_input_tokens, tokenizer)
        async with call.watched(), self.admission.held(tenant.uid, quotas, call.request_id) as used:
            found = await self.pipeline.search.find(
                tenant.corpus, mode, embedding, query, request.top_k or retrieval.top_k
            )
            used.embedding = found.embedding_tokens
            results = [
                result_of(chunk, found.documents[chunk.document_id]) for chunk in found.chunks
            ]
            usage = {
                "prompt_tokens": found.embedding_tokens,
                "total_tokens": found.embedding_tokens,
            }
            await call.respond(200, json.dumps({"results": results, "usage": usage}).encode())

    async def put_document(self, call: Call) -> None:
        """`POST /v1/documents`. Goes on when the client goes away: it will ask again."""
        tenant = call.tenant
        deployment = self.directory.deployment
        limit = deployment.ingestion.max_document_bytes
        request = parse(DocumentRequest, await call.body(limit * _ESCAPED + CHAT_BODY_BYTES))
        size = len(request.text.encode())
        if size > limit:
            raise PayloadTooLarge(
                f"The text has {size} bytes, and the limit is {limit}.", param="text"
            )
        embedding = deployment.embedding
        tokenizer = self.pipeline.tokenizers.embedding(embedding.model)
        plan = EmbeddingPlan(embedding, deployment.ingestion.chunking, tokenizer)
        new = NewDocument(request.id or str(uuid4()), request.text, request.title, request.metadata)
        quotas = tenant.settings.quotas
        async with self.admission.held(tenant.uid, quotas, call.request_id) as used:
            written = await self.documents.put(tenant, new, plan, used)
        body = json.dumps(document_object(written.document)).encode()
        await call.respond(201 if written.created else 200, body)

    async def get_document(self, call: Call) -> None:
        """`GET /v1/documents/{id}`."""
        tenant = call.tenant
        quotas = tenant.settings.quotas
        async with self.admission.held(tenant.uid, quotas, call.request_id):
            document = await self.documents.get(tenant, _document_id(call))
        await call.respond(200, json.dumps(document_object(document)).encode())

    async def delete_document(self, call: Call) -> None:
        """`DELETE /v1/documents/{id}`."""
        tenant = call.tenant
        name = _document_id(call)
        quotas = tenant.settings.quotas
        async with self.admission.held(tenant.uid, quotas, call.request_id):
            await self.documents.delete(tenant, name)
        body = {"id": name, "object": "document", "deleted": True}
        await call.respond(200, json.dumps(body).encode())

    async def models(self, call: Call) -> None:
        """`GET /v1/models`."""
        created = int(self.started.timestamp())
        names = [self.directory.deployment.generation.model, MODEL_ALIAS]
        data = [
            {"id": name, "object": "model", "created": created, "owned_by": "ragtenancy"}
            for name in names
        ]
        await call.respond(200, json.dumps({"object": "list", "data": data}).encode())

    async def usage(self, call: Call) -> None:
        """`GET /v1/usage`."""
        tenant = call.tenant
        days = await self.admission.usage(tenant.uid)
        await call.respond(200, json.dumps(usage_object(days)).encode())

    def _check_model(self, name: str) -> None:
        if name not in {MODEL_ALIAS, self.directory.deployment.generation.model}:
            raise NotFound(
                f"The model '{name}' does not exist.", param="model", code="model_not_found"
            )


class Route(NamedTuple):
    """One route under /v1."""

    method: str
    path: str
    role: Role
    """What its caller must at least be."""
    handler: Callable[[Routes, Call], Awaitable[None]]


ROUTES: Final = (
    Route("POST", "/v1/chat/completions", "Reader", Routes.chat),
    Route("POST", "/v1/search", "Reader", Routes.search),
    Route("POST", "/v1/documents", "Writer", Routes.put_document),
    Route("GET", "/v1/documents/{document_id}", "Reader", Routes.get_document),
    Route("DELETE", "/v1/documents/{document_id}", "Writer", Routes.delete_document),
    Route("GET", "/v1/models", "Reader", Routes.models),
    Route("GET", "/v1/usage", "Reader", Routes.usage),
)
"""Every route that tenants reach. There is no other way to declare one."""


def _document_id(call: Call) -> str:
    return unquote(call.path_params["document_id"])


def started_now() -> datetime:
    """When this process started serving."""
    return datetime.fromtimestamp(time.time(), UTC)
