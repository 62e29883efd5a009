"""Traces to an OpenTelemetry collector, over OTLP/HTTP.

Imported only where there is a collector: it costs memory. Spans go out in batches from a
thread; what a collector does not take in time is dropped.
"""

import asyncio
import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Span as OTelSpan
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from ragtenancy_api import __version__
from ragtenancy_runtime.ports import Attribute, Span
from ragtenancy_runtime.tracing import TENANT

_EXPORT_S: Final = 5.0
_CLOSE_S: Final = 5.0
_DELAY_MS: Final = 1000
_QUEUE: Final = 2048
"""Spans that wait for the collector, at most; more are dropped."""

_current: ContextVar["OTLPRequest | None"] = ContextVar("request", default=None)


class OTLPSpan:
    """One span."""

    def __init__(self, span: OTelSpan) -> None:
        self._span = span

    def set(self, attributes: Mapping[str, Attribute]) -> None:
        """Say more of it."""
        self._span.set_attributes(attributes)

    def fail(self, kind: str) -> None:
        """It failed, with an error of this kind."""
        self._span.set_attribute("error.type", kind)
        self._span.set_status(Status(StatusCode.ERROR))

    def end(self) -> None:
        """It is over."""
        self._span.end()


class OTLPRequest(OTLPSpan):
    """The span of a request; its tenant stands on every step's span too."""

    def __init__(self, span: OTelSpan) -> None:
        super().__init__(span)
        self.context = set_span_in_context(span, Context())
        self.shared: dict[str, Attribute] = {}

    def set(self, attributes: Mapping[str, Attribute]) -> None:
        """Say more of it."""
        super().set(attributes)
        if TENANT in attributes:
            self.shared[TENANT] = attributes[TENANT]


class OTLPTracer:
    """Traces the requests of one process."""

    def __init__(self, endpoint: str, sample_ratio: float, namespace: str, deployment: str) -> None:
        # The SDK logs every failed export with its stack; the pod's log is for requests.
        logging.getLogger("opentelemetry").setLevel(logging.ERROR)
        resource = Resource.create(
            {
                "service.name": "ragtenancy-api",
                "service.namespace": namespace,
                "service.version": __version__,
                "ragtenancy.deployment": deployment,
            }
        )
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(sample_ratio)),
            resource=resource,
            shutdown_on_exit=False,
        )
        exporter = OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces", timeout=_EXPORT_S)
        self._provider.add_span_processor(
            BatchSpanProcessor(exporter, max_queue_size=_QUEUE, schedule_delay_millis=_DELAY_MS)
        )
        self._tracer = self._provider.get_tracer("ragtenancy", __version__)
        self._propagator = TraceContextTextMapPropagator()

    @contextmanager
    def request(self, route: str, headers: Mapping[str, str]) -> Iterator[Span]:
        """The span of a request, for the length of a block: steps that start in it are its own."""
        parent = self._propagator.extract(headers, Context())
        method, _, path = route.partition(" ")
        span = self._tracer.start_span(
            route,
            parent,
            SpanKind.SERVER,
            {"http.request.method": method, "http.route": path, "url.scheme": "http"},
        )
        request = OTLPRequest(span)
        token = _current.set(request)
        try:
            yield request
        finally:
            _current.reset(token)
            span.end()

    def start(self, name: str, attributes: Mapping[str, Attribute]) -> Span:
        """A step of the request that this task answers."""
        request = _current.get()
        context = Context() if request is None else request.context
        shared = {} if request is None else request.shared
        whole = {**shared, **attributes}
        return OTLPSpan(self._tracer.start_span(name, context, SpanKind.CLIENT, whole))

    async def close(self) -> None:
        """Send what is left, as far as the collector takes it soon."""
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def shut_down() -> None:
            self._provider.shutdown()
            loop.call_soon_threadsafe(done.set)

        # A thread that the process need not wait for.
        threading.Thread(target=shut_down, daemon=True).start()
        try:
            async with asyncio.timeout(_CLOSE_S):
                await done.wait()
        except TimeoutError:
            pass
