"""Workers: take a key, reconcile it, and see to what comes of it."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from ragtenancy_api.logs import fields
from ragtenancy_operator.errors import Retry
from ragtenancy_operator.kube import counted_writes
from ragtenancy_operator.metrics import Metrics
from ragtenancy_operator.store import Key, Store
from ragtenancy_operator.workqueue import RETRY, WorkQueue

_log = logging.getLogger(__name__)
Reconcile = Callable[[Key], Awaitable[float | None]]
Result = Literal["success", "requeue_after", "error"]

EVENT: Final = "event"
"""First word of a cause: the API server told of a change."""
LISTED: Final = "listed"
"""Cause: the object was there when this process began to watch, or to lead."""
RESYNC: Final = "resync"
"""Cause: every object is looked at again from time to time."""
REQUEUE: Final = "requeue"
"""Cause: the pass before asked for another one later."""


@dataclass(frozen=True)
class Pass:
    """One reconcile that ended.

    Attributes:
        cause: What woke the key.
        result: As controller-runtime calls it.
        seconds: How long it took.
        writes: Requests to the API server that change something.
        again: In how many seconds the key wakes by itself.
        error: What went wrong.
    """

    cause: tuple[str, ...]
    result: Result
    seconds: float
    writes: int
    again: float | None
    error: str | None

    @property
    def dull(self) -> bool:
        """Whether no event asked for it, nothing came of it and nothing went wrong.

        With ten thousand tenants every resync has ten thousand of these, and so has every start.
        """
        asked = any(cause == RETRY or cause.startswith(EVENT) for cause in self.cause)
        return not (self.writes or self.error or asked)

    def fields(self) -> dict[str, Any]:
        """What a log line or a page says of it."""
        rounded = {"cause": "; ".join(self.cause), "seconds": round(self.seconds, 4)}
        if self.again is not None:
            rounded["again"] = round(self.again, 1)
        return {k: v for k, v in (asdict(self) | rounded).items() if v is not None}


class Workers:
    """A fixed number of tasks over one queue. An exception in one key delays no other."""

    def __init__(
        self,
        queue: WorkQueue[Key],
        store: Store,
        reconcilers: Mapping[str, Reconcile],
        metrics: Metrics,
    ) -> None:
        self._queue = queue
        self._store = store
        self._reconcilers = reconcilers
        self._metrics = metrics
        self._last: dict[Key, Pass] = {}

    async def run(self, number: int) -> None:
        """Work until cancelled."""
        self._metrics.workers(number)
        async with asyncio.TaskGroup() as group:
            for index in range(number):
                group.create_task(self._work(), name=f"worker-{index}")

    def last(self, key: Key) -> Pass | None:
        """The last pass over an object that is there."""
        return self._last.get(key)

    async def _work(self) -> None:
        while True:
            key = await self._queue.take()
            try:
                await self._reconcile(key)
            finally:
                self._queue.done(key)

    async def _reconcile(self, key: Key) -> None:
        started = time.monotonic()
        causes = self._queue.causes(key)
        idle = self._metrics.reconciling(key.kind)
        again: float | None = None
        failure: Exception | None = None
        try:
            with counted_writes() as writes:
                again = await self._reconcilers[key.kind](key)
        except Exception as error:
            failure = error  # also a bug: one pass holds up no other key
        finally:
            idle()
        seconds = time.monotonic() - started
        result: Result = "success" if again is None else "requeue_after"
        if failure is not None:
            result, again = "error", self._queue.fail(key)
        else:
            self._queue.succeed(key)
            if again is not None:
                self._queue.wake(key, again, cause=REQUEUE)
        done = Pass(causes, result, seconds, len(writes), again, _text(failure))
        self._note(key, done, failure)

    def _note(self, key: Key, done: Pass, failure: Exception | None) -> None:
        if self._store.get(*key) is None:
            self._last.pop(key, None)
        else:
            self._last[key] = done
        unexpected = failure is not None and not isinstance(failure, Retry)
        self._metrics.reconciled(key.kind, done.result, done.seconds, unexpected=unexpected)
        level = logging.DEBUG if done.dull else logging.INFO
        if failure is not None:
            level = logging.ERROR if unexpected else logging.WARNING
        extra = fields(key=str(key), **done.fields())
        # an exception that nobody foresaw is said in full
        _log.log(level, "reconciled", extra=extra, exc_info=failure if unexpected else None)


def _text(failure: Exception | None) -> str | None:
    if failure is None:
        return None
    if isinstance(failure, Retry):
        return str(failure)
    # nobody chose the words of this one: they stay in the log
    return f"unexpected {type(failure).__name__}"
