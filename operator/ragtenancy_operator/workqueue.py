"""A deduplicating, delayed work queue with a backoff per key.

The semantics are those of client-go's workqueue: a key that is woken while it waits is there once;
one that is woken while a worker has it runs again when that worker is done, never beside it. Beside
them it remembers for each key what woke it.
"""

import asyncio
import heapq
import itertools
import random
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, TypeVar

K = TypeVar("K", bound=Hashable)
_K_contra = TypeVar("_K_contra", contravariant=True)

RETRY: Final = "retry"
"""Cause of a pass that follows a failed one."""
_CAUSES: Final = 8
"""Different causes that are remembered of one waiting key: the first ones."""


class Meter(Protocol[_K_contra]):
    """What is told of every step of a key, as client-go tells its metrics."""

    def added(self, key: _K_contra) -> None:
        """The key waits for a worker; it did not before."""

    def delayed(self, key: _K_contra) -> None:
        """The key is to be woken later."""

    def taken(self, key: _K_contra, waited: float) -> None:
        """A worker has the key, which waited for so many seconds."""

    def done(self, key: _K_contra) -> None:
        """The worker gave it back."""


class _NoMeter:
    """Measures nothing."""

    def added(self, key: object) -> None:
        pass

    def delayed(self, key: object) -> None:
        pass

    def taken(self, key: object, waited: float) -> None:
        pass

    def done(self, key: object) -> None:
        pass


@dataclass
class _Waiting:
    """A key that was woken: since when, and why."""

    since: float
    causes: dict[str, None] = field(default_factory=dict)


@dataclass(frozen=True)
class State:
    """What the queue knows of one key.

    Attributes:
        waiting: What woke it since a worker last took it.
        running: What woke the pass that runs now; None while none does.
        due: In how many seconds it wakes by itself; None when it does not.
        failures: How many times in a row it has failed.
    """

    waiting: tuple[str, ...]
    running: tuple[str, ...] | None
    due: float | None
    failures: int


class WorkQueue(Generic[K]):
    """Keys that wait for a worker. Times are those of the event loop's monotonic clock."""

    def __init__(
        self,
        base_seconds: float = 0.1,
        longest_seconds: float = 60.0,
        meter: Meter[K] | None = None,
    ) -> None:
        self._base = base_seconds
        self._longest = longest_seconds
        self._meter: Meter[K] = meter or _NoMeter()
        self._ready: deque[K] = deque()
        self._dirty: dict[K, _Waiting] = {}
        self._running: dict[K, tuple[str, ...]] = {}
        self._due: dict[K, tuple[float, str]] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._tie = itertools.count()
        self._failures: dict[K, int] = {}
        self._wakeup = asyncio.Event()

    def __len__(self) -> int:
        """Keys that a worker could take now."""
        return len(self._ready)

    def wake(self, key: K, after: float = 0.0, *, cause: str) -> None:
        """Have the key reconciled, in ``after`` seconds at the latest.

        Args:
            key: The key.
            after: Seconds.
            cause: Why, for the log: a few words, the same ones each time.
        """
        now = asyncio.get_running_loop().time()
        if after > 0:
            self._meter.delayed(key)
            due = now + after
            if key not in self._dirty and due < self._due.get(key, (float("inf"), ""))[0]:
                self._due[key] = (due, cause)
                heapq.heappush(self._heap, (due, next(self._tie), key))
                self._wakeup.set()
            return
        self._due.pop(key, None)
        waiting = self._dirty.get(key)
        if waiting is None:
            waiting = self._dirty[key] = _Waiting(now)
            self._meter.added(key)
            if key not in self._running:
                self._ready.append(key)
                self._wakeup.set()
        if len(waiting.causes) < _CAUSES:
            waiting.causes[cause] = None

    def fail(self, key: K) -> float:
        """Have the key tried again after its backoff; says in how many seconds."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        delay = min(self._base * float(2 ** min(failures, 30)), self._longest)
        delay *= random.uniform(0.8, 1.2)  # noqa: S311 - jitter, not a secret
        self.wake(key, delay, cause=RETRY)
        return delay

    def failures(self, key: K) -> int:
        """How many times in a row the key has failed."""
        return self._failures.get(key, 0)

    def succeed(self, key: K) -> None:
        """Forget the key's failures."""
        self._failures.pop(key, None)

    def causes(self, key: K) -> tuple[str, ...]:
        """What woke the pass over the key that runs now."""
        return self._running.get(key, ())

    def state(self, key: K) -> State:
        """What is known of a key."""
        waiting, due = self._dirty.get(key), self._due.get(key)
        now = asyncio.get_running_loop().time()
        return State(
            waiting=tuple(waiting.causes) if waiting else (),
            running=self._running.get(key),
            due=None if due is None else due[0] - now,
            failures=self.failures(key),
        )

    async def take(self) -> K:
        """The next key; it is held until :meth:`done`."""
        while True:
            wait = self._promote()
            if self._ready:
                key = self._ready.popleft()
                waiting = self._dirty.pop(key)
                self._running[key] = tuple(waiting.causes)
                self._meter.taken(key, asyncio.get_running_loop().time() - waiting.since)
                return key
            self._wakeup.clear()
            try:
                async with asyncio.timeout(wait):
                    await self._wakeup.wait()
            except TimeoutError:
                continue

    def done(self, key: K) -> None:
        """Give the key back; it is ready again at once if it was woken meanwhile."""
        del self._running[key]
        self._meter.done(key)
        if key in self._dirty:
            self._ready.append(key)
            self._wakeup.set()

    def _promote(self) -> float | None:
        """Move what is due to the ready keys; says how long until the next is."""
        now = asyncio.get_running_loop().time()
        while self._heap:
            due, _, key = self._heap[0]
            at, cause = self._due.get(key, (None, ""))
            if at != due:
                heapq.heappop(self._heap)
            elif due <= now:
                heapq.heappop(self._heap)
                self.wake(key, cause=cause)
            else:
                return due - now
        return None
