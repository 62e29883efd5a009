"""Puts the parts together, and starts and stops them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

from fastapi import FastAPI
from kubernetes.aio.client.api_client import ApiClient
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ragtenancy_api import __version__
from ragtenancy_api.wiring import WATCH_PATH
from ragtenancy_runtime.access import Access
from ragtenancy_runtime.adapters import files, kubernetes
from ragtenancy_runtime.adapters.issuer import IssuedTokens
from ragtenancy_runtime.adapters.openai import OpenAIEmbedder, OpenAIGenerator, session
from ragtenancy_runtime.adapters.redis import RedisScripts
from ragtenancy_runtime.adapters.weaviate import WeaviateStore
from ragtenancy_runtime.admission import Admission
from ragtenancy_runtime.cache.exact import ExactCache
from ragtenancy_runtime.http.endpoint import Endpoint
from ragtenancy_runtime.http.errors import error_object
from ragtenancy_runtime.http.openapi import build_document
from ragtenancy_runtime.http.routes import ROUTES, Routes, started_now
from ragtenancy_runtime.ingest.documents import Documents
from ragtenancy_runtime.metrics import Metrics
from ragtenancy_runtime.pipeline import Pipeline
from ragtenancy_runtime.ports import Tracer
from ragtenancy_runtime.readiness import Readiness
from ragtenancy_runtime.retrieval.search import Search
from ragtenancy_runtime.settings import Settings
from ragtenancy_runtime.tenants import Directory
from ragtenancy_runtime.tokens import Tokenizers
from ragtenancy_runtime.tracing import NO_TRACES, TracedEmbedder

_CACHE_TIMEOUT_S: Final = 0.5
_TOKENIZERS_EVERY_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Runtime:
    """A running pod: its two applications and what the process needs of them."""

    api: FastAPI
    internal: Starlette
    readiness: Readiness


def _api(
    routes: Routes, access: Access, readiness: Readiness, metrics: Metrics, tracer: Tracer
) -> FastAPI:
    """The application that tenants reach."""
    api = FastAPI(title="ragtenancy", redoc_url=None)
    document = build_document(__version__)
    api.openapi = lambda: document  # type: ignore[method-assign]

    for method, path, role, handler in ROUTES:
        endpoint = Endpoint(
            f"{method} {path}",
            role,
            partial(handler, routes),
            access=access,
            metrics=metrics,
            tracer=tracer,
        )
        api.router.routes.append(Route(path, endpoint, methods=[method]))

    def healthz(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    def readyz(_: Request) -> Response:
        status = 200 if readiness.ready else 503
        body = {"ready": readiness.ready, "missing": sorted(readiness.missing)}
        return JSONResponse({**body, "draining": readiness.draining}, status)

    def unknown(_: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        headers = error.headers if isinstance(error, HTTPException) else None
        message = "There is nothing at this URL." if status == 404 else "Method not allowed."
        body = error_object(message, "invalid_request_error", None, None)
        return Response(body, status, headers=headers, media_type="application/json")

    api.router.routes += [Route("/healthz", healthz), Route("/readyz", readyz)]
    api.add_exception_handler(HTTPException, unknown)
    return api


def _internal(
    metrics: Metrics, directory: Directory, source: kubernetes.KubernetesTenants | None
) -> Starlette:
    """The application that only the platform reaches."""

    def expose(_: Request) -> Response:
        metrics.tenants.set(len(directory))
        metrics.shared_keys.set(directory.shared_keys)
        return Response(metrics.expose(), media_type="text/plain; version=0.0.4")

    def progress(_: Request) -> Response:
        applied = source.progress if source is not None else None
        if applied is None:
            return JSONResponse({"error": "nothing is watched, or not listed yet"}, 503)
        return JSONResponse(applied.wire())

    return Starlette(routes=[Route("/metrics", expose), Route(WATCH_PATH, progress)])


async def _keep_tokenizers(
    directory: Directory, tokenizers: Tokenizers, readiness: Readiness
) -> None:
    """Load tokenizers when the model cache has them, also of a model that comes later."""

    async def load() -> None:
        await asyncio.to_thread(tokenizers.load, directory.deployment)

    while True:
        await readiness.wait_for("tokenizers", load)
        await asyncio.sleep(_TOKENIZERS_EVERY_S)


@asynccontextmanager
async def _tracer(settings: Settings) -> AsyncIterator[Tracer]:
    """What traces requests, if anybody collects traces."""
    if settings.otlp_endpoint is None:
        yield NO_TRACES
        return
    from ragtenancy_runtime.adapters.otlp import OTLPTracer  # noqa: PLC0415 - costs memory

    tracer = OTLPTracer(
        settings.otlp_endpoint,
        settings.trace_sample_ratio,
        settings.namespace,
        settings.deployment,
    )
    try:
        yield tracer
    finally:
        await tracer.close()


@asynccontextmanager
async def run(settings: Settings, kube: ApiClient | None = None) -> AsyncIterator[Runtime]:
    """A running pod, for the length of a block. Without `kube` tenants come from files.

    At the end every settlement is confirmed before the connections are closed.
    """
    credentials = settings.credentials
    directory, metrics, readiness = Directory(), Metrics(), Readiness()
    readiness.missing = dict.fromkeys(("directory", "tokenizers", "state", "vector store"), "")
    tokenizers = Tokenizers(settings.embedding_model_cache, settings.generation_model_cache)
    async with AsyncExitStack() as stack:
        state = RedisScripts(credentials.state_redis, "state store")
        stack.push_async_callback(state.close)
        cache_redis = RedisScripts(credentials.cache_redis, "cache", _CACHE_TIMEOUT_S)
        stack.push_async_callback(cache_redis.close)
        store = WeaviateStore(
            settings.weaviate_http_url,
            settings.weaviate_grpc_url,
            credentials.weaviate,
            credentials.weaviate_ca,
        )
        stack.push_async_callback(store.close)
        embedding = await stack.enter_async_context(
            session(credentials.embedding, credentials.embedding_ca)
        )
        generation = await stack.enter_async_context(
            session(credentials.generation, credentials.generation_ca)
        )

        issuer = await stack.enter_async_context(session(None))
        access = Access(directory, IssuedTokens(issuer))
        tracer = await stack.enter_async_context(_tracer(settings))
        admission = Admission(state, tracer)
        cache = ExactCache(cache_redis)
        embedder = TracedEmbedder(OpenAIEmbedder(settings.embedding_url, embedding), tracer)
        pipeline = Pipeline(
            directory,
            admission,
            cache,
            Search(embedder, store, tracer),
            OpenAIGenerator(settings.generation_url, generation),
            tokenizers,
            credentials.cache_salt,
            tracer,
        )
        documents = Documents(store, embedder, state, cache)
        routes = Routes(directory, admission, pipeline, documents, started_now())

        tasks = await stack.enter_async_context(_background())
        tasks.create_task(admission.keep_leases())
        tasks.create_task(readiness.wait_for("state", state.ping))
        tasks.create_task(readiness.wait_for("vector store", store.connect))
        source = None
        if kube is not None:
            source = kubernetes.KubernetesTenants(
                kube, settings.namespace, settings.deployment, directory
            )
            for each in source.watches:
                tasks.create_task(each.run())
            tasks.create_task(_synced(source, readiness))
        elif settings.tenants is not None:
            files.load(settings.tenants, directory)
            del readiness.missing["directory"]

        tasks.create_task(_keep_tokenizers(directory, tokenizers, readiness))
        yield Runtime(
            _api(routes, access, readiness, metrics, tracer),
            _internal(metrics, directory, source),
            readiness,
        )
        await admission.drain()


async def _synced(source: kubernetes.KubernetesTenants, readiness: Readiness) -> None:
    await source.synced()
    readiness.missing.pop("directory", None)


class _Stop(Exception):
    """Ends the background tasks."""


@asynccontextmanager
async def _background() -> AsyncIterator[asyncio.TaskGroup]:
    """Tasks that run until the block ends; one that fails ends the process."""

    async def stop() -> None:
        raise _Stop

    try:
        async with asyncio.TaskGroup() as tasks:
            yield tasks
            tasks.create_task(stop())
    except* _Stop:
        pass
