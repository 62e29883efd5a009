"""An OpenTelemetry collector over real HTTP: decodes the spans that it is sent."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.fakes.served import Served


@dataclass(frozen=True)
class Received:
    """A span."""

    name: str
    kind: int
    trace: str
    id: str
    parent: str
    attributes: dict[str, Any]
    failed: bool


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(entry) for entry in value.array_value.values]
    return getattr(value, kind) if kind else None


def _received(span: Span) -> Received:
    return Received(
        name=span.name,
        kind=span.kind,
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        attributes={entry.key: _value(entry.value) for entry in span.attributes},
        failed=span.status.code == 2,
    )


@dataclass
class FakeCollector(Served):
    """What it was sent.

    Attributes:
        spans: All of them, in the order of arrival.
        resources: Attributes of those who sent them.
        raw: The bodies.
        slow: Whether it takes its time.
    """

    spans: list[Received] = field(default_factory=list)
    resources: list[dict[str, Any]] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    slow: bool = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def routes(self) -> Iterable[web.RouteDef]:
        """OTLP's."""
        return (web.post("/v1/traces", self._traces),)

    async def _traces(self, request: web.Request) -> web.Response:
        body = await request.read()
        if self.slow:
            await asyncio.sleep(60)
        self.raw.append(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.resources.append(
                {entry.key: _value(entry.value) for entry in resource.resource.attributes}
            )
            for scope in resource.scope_spans:
                self.spans += [_received(span) for span in scope.spans]
        return web.Response(content_type="application/x-protobuf")

    def of(self, trace: str) -> dict[str, Received]:
        """The spans of one trace, by name."""
        return {span.name: span for span in self.spans if span.trace == trace}
