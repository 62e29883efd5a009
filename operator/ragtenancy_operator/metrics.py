"""Prometheus metrics, in controller-runtime's vocabulary, and the internal HTTP port."""

from collections.abc import Callable
from typing import Final

from aiohttp import web
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from ragtenancy_operator.workqueue import WorkQueue

_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """The operator's metrics, in a registry of their own."""

    def __init__(self, queue: WorkQueue[object]) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.reconciles = Counter(
            "controller_runtime_reconcile",
            "Reconciles by kind and result (success, requeue_after, error).",
            ["controller", "result"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "controller_runtime_reconcile_time_seconds",
            "How long a reconcile took.",
            ["controller"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.active = Gauge(
            "controller_runtime_active_workers",
            "Workers that are busy.",
            ["controller"],
            registry=self.registry,
        )
        self._gauge("workqueue_depth", "Keys that wait for a worker.", lambda: len(queue))
        self._gauge("workqueue_adds_total", "Keys woken.", lambda: queue.adds)
        self._gauge("workqueue_retries_total", "Keys tried again.", lambda: queue.retries)
        self.leading = Gauge(
            "leader_election_master_status", "1 while this process leads.", registry=self.registry
        )

    def _gauge(self, name: str, text: str, value: Callable[[], float]) -> None:
        Gauge(name, text, registry=self.registry).set_function(value)


async def serve(metrics: Metrics, port: int, healthy: Callable[[], bool]) -> web.AppRunner:
    """Serve /healthz, /readyz and /metrics; the caller cleans the runner up."""

    async def health(_: web.Request) -> web.Response:
        fine = healthy()
        return web.Response(text="ok" if fine else "stopping", status=200 if fine else 503)

    async def scrape(_: web.Request) -> web.Response:
        body = generate_latest(metrics.registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.add_routes(
        [
            web.get("/healthz", health),
            web.get("/readyz", health),
            web.get("/metrics", scrape),
        ]
    )
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, port=port).start()
    return runner
