"""A deduplicating, delayed work queue with a backoff per key.

The semantics are those of client-go's workqueue: a key that is woken while it waits is there once;
one that is woken while a worker has it runs again when that worker is done, never beside it.
"""

import asyncio
import heapq
import itertools
import random
from collections import deque
from typing import Generic, TypeVar

K = TypeVar("K")


class WorkQueue(Generic[K]):
    """Keys that wait for a worker. Times are those of the event loop's monotonic clock."""

    def __init__(self, base_seconds: float = 0.1, longest_seconds: float = 60.0) -> None:
        self._base = base_seconds
        self._longest = longest_seconds
        self._ready: deque[K] = deque()
        self._dirty: set[K] = set()
        self._running: set[K] = set()
        self._due: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._tie = itertools.count()
        self._failures: dict[K, int] = {}
        self._wakeup = asyncio.Event()
        self.adds = 0
        self.retries = 0

    def __len__(self) -> int:
        """Keys that a worker could take now."""
        return len(self._ready)

    def wake(self, key: K, after: float = 0.0) -> None:
        """Have the key reconciled, in ``after`` seconds at the latest."""
        self.adds += 1
        if after > 0:
            due = asyncio.get_running_loop().time() + after
            if key not in self._dirty and due < self._due.get(key, float("inf")):
                self._due[key] = due
                heapq.heappush(self._heap, (due, next(self._tie), key))
                self._wakeup.set()
            return
        self._due.pop(key, None)
        if key in self._dirty:
            return
        self._dirty.add(key)
        if key not in self._running:
            self._ready.append(key)
            self._wakeup.set()

    def fail(self, key: K) -> float:
        """Have the key tried again after its backoff; says in how many seconds."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        self.retries += 1
        delay = min(self._base * float(2 ** min(failures, 30)), self._longest)
        delay *= random.uniform(0.8, 1.2)  # noqa: S311 - jitter, not a secret
        self.wake(key, delay)
        return delay

    def failures(self, key: K) -> int:
        """How many times in a row the key has failed."""
        return self._failures.get(key, 0)

    def succeed(self, key: K) -> None:
        """Forget the key's failures."""
        self._failures.pop(key, None)

    async def take(self) -> K:
        """The next key; it is held until :meth:`done`."""
        while True:
            wait = self._promote()
            if self._ready:
                key = self._ready.popleft()
                self._dirty.discard(key)
                self._running.add(key)
                return key
            self._wakeup.clear()
            try:
                async with asyncio.timeout(wait):
                    await self._wakeup.wait()
            except TimeoutError:
                continue

    def done(self, key: K) -> None:
        """Give the key back; it is ready again at once if it was woken meanwhile."""
        self._running.discard(key)
        if key in self._dirty:
            self._ready.append(key)
            self._wakeup.set()

    def _promote(self) -> float | None:
        """Move what is due to the ready keys; says how long until the next is."""
        now = asyncio.get_running_loop().time()
        while self._heap:
            due, _, key = self._heap[0]
            if self._due.get(key) != due:
                heapq.heappop(self._heap)
            elif due <= now:
                heapq.heappop(self._heap)
                self.wake(key)
            else:
                return due - now
        return None
