"""Prometheus metrics in controller-runtime's vocabulary: its names, labels and buckets.

Source: controller-runtime's ``pkg/internal/controller/metrics`` and ``pkg/internal/metrics``, and
client-go's metrics that it registers. A controller is the lower-case kind. All of them share one
queue and one pool of workers: what the queue says is told apart by the kind of the key.
"""

import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from ragtenancy_operator.names import LEASE
from ragtenancy_operator.store import Key

_RECONCILE_BUCKETS: Final = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5),
    *(0.6, 0.7, 0.8, 0.9, 1, 1.25, 1.5, 1.75, 2, 2.5, 3, 3.5, 4, 4.5, 5, 6, 7, 8, 9, 10),
    *(15, 20, 25, 30, 40, 50, 60),
)
_Metric = TypeVar("_Metric", Counter, Gauge, Histogram)
_QUEUE_BUCKETS: Final = tuple(10.0**exponent for exponent in range(-8, 4))


def controller(kind: str) -> str:
    """Name of a kind's controller in labels."""
    return kind.lower()


class QueueMeter:
    """What ``workqueue_*`` says, told by the work queue (a :class:`.workqueue.Meter`)."""

    def __init__(self, registry: CollectorRegistry, kinds: Iterable[str]) -> None:
        labels = ["name", "controller"]
        self._depth = Gauge("workqueue_depth", "Keys that wait.", labels, registry=registry)
        self._adds = Counter("workqueue_adds", "Keys woken.", labels, registry=registry)
        self._retries = Counter(
            "workqueue_retries",
            "Keys to be woken after a delay: after a failure, or to look again.",
            labels,
            registry=registry,
        )
        self._waited = Histogram(
            "workqueue_queue_duration_seconds",
            "How long a key waits for a worker.",
            labels,
            buckets=_QUEUE_BUCKETS,
            registry=registry,
        )
        self._worked = Histogram(
            "workqueue_work_duration_seconds",
            "How long a worker has a key.",
            labels,
            buckets=_QUEUE_BUCKETS,
            registry=registry,
        )
        unfinished = Gauge(
            "workqueue_unfinished_work_seconds",
            "For how long the keys in work have been so, added up.",
            labels,
            registry=registry,
        )
        longest = Gauge(
            "workqueue_longest_running_processor_seconds",
            "For how long the key that is longest in work has been so.",
            labels,
            registry=registry,
        )
        self._started: dict[Key, float] = {}
        for kind in kinds:
            self._at(self._depth, kind).set(0)
            self._at(unfinished, kind).set_function(partial(self._unfinished, kind))
            self._at(longest, kind).set_function(partial(self._longest, kind))

    @staticmethod
    def _at(metric: _Metric, kind: str) -> _Metric:
        return metric.labels(controller(kind), controller(kind))

    def _running(self, kind: str) -> list[float]:
        now = time.monotonic()
        return [now - started for key, started in self._started.items() if key.kind == kind]

    def _unfinished(self, kind: str) -> float:
        return sum(self._running(kind))

    def _longest(self, kind: str) -> float:
        return max(self._running(kind), default=0)

    def added(self, key: Key) -> None:
        """A key waits for a worker."""
        self._at(self._adds, key.kind).inc()
        self._at(self._depth, key.kind).inc()

    def delayed(self, key: Key) -> None:
        """A key is to be woken later."""
        self._at(self._retries, key.kind).inc()

    def taken(self, key: Key, waited: float) -> None:
        """A worker has the key."""
        self._at(self._depth, key.kind).dec()
        self._at(self._waited, key.kind).observe(waited)
        self._started[key] = time.monotonic()

    def done(self, key: Key) -> None:
        """The worker gave it back."""
        worked = time.monotonic() - self._started.pop(key)
        self._at(self._worked, key.kind).observe(worked)


class KeeperMeter:
    """What ``ragtenancy_*`` says of the stores, told by the keeper."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ["namespace", "deployment"]
        self._active = Gauge(
            "ragtenancy_active_tenants",
            "Weaviate tenants whose shards are open.",
            labels,
            registry=registry,
        )
        self._beyond = Gauge(
            "ragtenancy_active_tenants_beyond_limit",
            "Those beyond maxActiveTenants that cannot be put to sleep: they are in use.",
            labels,
            registry=registry,
        )
        self._deactivated = Counter(
            "ragtenancy_tenants_deactivated",
            "Tenants that were put to sleep.",
            labels,
            registry=registry,
        )
        self._repairs = Counter(
            "ragtenancy_repairs",
            "Damage in a store that was found and mended, by kind: tenant, collection, state.",
            [*labels, "kind"],
            registry=registry,
        )
        self._seconds = Histogram(
            "ragtenancy_keeper_pass_seconds",
            "How long the keeper looked after one deployment's stores.",
            labels,
            registry=registry,
        )
        self._checkpoints = Counter(
            "ragtenancy_checkpoints",
            "Usage and document counts that were written into a RAGBinding.",
            labels,
            registry=registry,
        )

    def active(self, where: tuple[str, str], active: int, beyond: int) -> None:
        """Say how many tenants are active, and how many of them are too many."""
        self._active.labels(*where).set(active)
        self._beyond.labels(*where).set(beyond)

    def deactivated(self, where: tuple[str, str], number: int) -> None:
        """Count tenants that were put to sleep."""
        self._deactivated.labels(*where).inc(number)

    def repaired(self, where: tuple[str, str], kind: str, number: int = 1) -> None:
        """Count damage that was mended."""
        self._repairs.labels(*where, kind).inc(number)

    def passed(self, where: tuple[str, str], seconds: float) -> None:
        """Count a look at a deployment's stores."""
        self._seconds.labels(*where).observe(seconds)

    def checkpointed(self, where: tuple[str, str]) -> None:
        """Count a write of usage or of a count."""
        self._checkpoints.labels(*where).inc()

    def forget(self, where: tuple[str, str]) -> None:
        """Say no more of a deployment that is gone."""
        for gauge in (self._active, self._beyond):
            gauge.remove(*where)


class Metrics:
    """The operator's metrics, in a registry of their own."""

    def __init__(self, kinds: Iterable[str]) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._kinds = tuple(kinds)
        self.queue = QueueMeter(self.registry, self._kinds)
        self.keeper = KeeperMeter(self.registry)
        self._reconciles = Counter(
            "controller_runtime_reconcile",
            "Reconciles by controller and result: success, requeue_after, error.",
            ["controller", "result"],
            registry=self.registry,
        )
        self._errors = self._counter("reconcile_errors", "Reconciles that failed.")
        self._panics = self._counter(
            "reconcile_panics", "Reconciles that ended in an exception nobody foresaw: bugs."
        )
        self._seconds = Histogram(
            "controller_runtime_reconcile_time_seconds",
            "How long a reconcile took.",
            ["controller"],
            buckets=_RECONCILE_BUCKETS,
            registry=self.registry,
        )
        self._active = self._gauge("active_workers", "Workers that are busy.")
        self._workers = self._gauge(
            "max_concurrent_reconciles",
            "Workers. All controllers share them: the number is not one for each.",
        )
        self._leading = Gauge(
            "leader_election_master_status",
            "1 while this process leads.",
            ["name"],
            registry=self.registry,
        )
        self._leading.labels(LEASE).set(0)
        self._requests = Counter(
            "rest_client_requests",
            "Requests to the API server; those of the watches apart.",
            ["code", "method", "host"],
            registry=self.registry,
        )

    def _counter(self, name: str, text: str) -> Counter:
        name = f"controller_runtime_{name}"
        counter = Counter(name, text, ["controller"], registry=self.registry)
        for kind in self._kinds:
            counter.labels(controller(kind))
        return counter

    def _gauge(self, name: str, text: str) -> Gauge:
        name = f"controller_runtime_{name}"
        gauge = Gauge(name, text, ["controller"], registry=self.registry)
        for kind in self._kinds:
            gauge.labels(controller(kind)).set(0)
        return gauge

    def leads(self, leading: bool) -> None:
        """Say whether this process leads."""
        self._leading.labels(LEASE).set(leading)

    def workers(self, number: int) -> None:
        """Say how many workers there are."""
        for kind in self._kinds:
            self._workers.labels(controller(kind)).set(number)

    def reconciling(self, kind: str) -> Callable[[], None]:
        """Count a worker as busy until the function is called that this returns."""
        gauge = self._active.labels(controller(kind))
        gauge.inc()
        return gauge.dec

    def reconciled(self, kind: str, result: str, seconds: float, *, unexpected: bool) -> None:
        """Count a reconcile that ended."""
        name = controller(kind)
        self._reconciles.labels(name, result).inc()
        self._seconds.labels(name).observe(seconds)
        if result == "error":
            self._errors.labels(name).inc()
        if unexpected:
            self._panics.labels(name).inc()

    def requested(self, code: str, method: str, host: str) -> None:
        """Count a request to the API server; ``<error>`` is the code of one without an answer."""
        self._requests.labels(code, method, host).inc()
