"""Workers: take a key, reconcile it, and see to what comes of it."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping

from ragtenancy_operator.errors import Retry
from ragtenancy_operator.metrics import Metrics
from ragtenancy_operator.store import Key
from ragtenancy_operator.workqueue import WorkQueue

_log = logging.getLogger(__name__)
Reconcile = Callable[[Key], Awaitable[float | None]]


class Workers:
    """A fixed number of tasks over one queue. An exception in one key delays no other."""

    def __init__(
        self,
        queue: WorkQueue[Key],
        reconcilers: Mapping[str, Reconcile],
        metrics: Metrics,
    ) -> None:
        self._queue = queue
        self._reconcilers = reconcilers
        self._metrics = metrics

    async def run(self, number: int) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            for index in range(number):
                group.create_task(self._work(), name=f"worker-{index}")

    async def _work(self) -> None:
        while True:
            key = await self._queue.take()
            try:
                await self._reconcile(key)
            finally:
                self._queue.done(key)

    async def _reconcile(self, key: Key) -> None:
        metrics, kind = self._metrics, key.kind
        started = time.monotonic()
        metrics.active.labels(kind).inc()
        result, again = "success", None
        try:
            again = await self._reconcilers[kind](key)
            self._queue.succeed(key)
            if again is not None:
                result = "requeue_after"
                self._queue.wake(key, again)
        except Retry as error:
            result, again = "error", self._queue.fail(key)
            _log.info("%s: %s; again in %.1f s", key, error, again)
        except Exception:
            # a bug in one pass: said in full, and tried again without holding up any other key
            result, again = "error", self._queue.fail(key)
            _log.exception("%s: unexpected; again in %.1f s", key, again)
        finally:
            metrics.active.labels(kind).dec()
            seconds = time.monotonic() - started
            metrics.reconciles.labels(kind, result).inc()
            metrics.seconds.labels(kind).observe(seconds)
            _log.debug("%s: %s in %.3f s", key, result, seconds)
