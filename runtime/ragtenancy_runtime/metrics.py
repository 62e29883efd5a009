"""Prometheus metrics of one process, in a registry of their own."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

MAX_TENANTS: Final = 1000
"""Tenants with series of their own; the rest share `other`."""

_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """What the pod counts. A tenant is labelled by its uid."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        for collector in (GCCollector, PlatformCollector, ProcessCollector):
            collector(registry=self.registry)
        self.requests = self._counter("requests", "Requests answered.", "tenant", "route", "code")
        self.seconds = self._histogram(
            "request_seconds", "From the request's first byte to the answer's last.", "route"
        )
        self.first_token = self._histogram(
            "first_token_seconds", "From the request's first byte to the first token."
        )
        self.tokens = self._counter("tokens", "Tokens, as the servers count.", "tenant", "kind")
        self.denials = self._counter("denials", "Requests denied.", "tenant", "reason")
        self.cache = self._counter("cache_lookups", "Lookups in the cache.", "kind", "result")
        self.unavailable = self._counter("unavailable", "Requests failed by an absence.", "service")
        self.in_flight = Gauge(
            "ragtenancy_requests_in_flight", "Requests being answered.", registry=self.registry
        )
        self.tenants = Gauge(
            "ragtenancy_tenants", "Tenants in the directory.", registry=self.registry
        )
        self.shared_keys = Gauge(
            "ragtenancy_shared_keys",
            "Key hashes that more than one key of the bindings has: they authenticate nobody.",
            registry=self.registry,
        )
        self._labelled: set[str] = set()

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"ragtenancy_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, *labels: str) -> Histogram:
        return Histogram(
            f"ragtenancy_{name}", text, labels, registry=self.registry, buckets=_SECONDS
        )

    def tenant(self, uid: str | None) -> str:
        """The label of a tenant: its uid while there are few, `other` beyond."""
        if uid is None:
            return ""
        if uid not in self._labelled:
            if len(self._labelled) >= MAX_TENANTS:
                return "other"
            self._labelled.add(uid)
        return uid

    def expose(self) -> bytes:
        """Everything, in Prometheus' text format."""
        return generate_latest(self.registry)
