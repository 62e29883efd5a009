"""Redis: runs the Lua files of `lua/`, with a bound on every wait.

Calls that are made in one turn of the event loop share a pipeline: a round trip costs a Python
process more than the script does, and under load most turns have several.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final, cast

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from ragtenancy_runtime.errors import Unavailable

_CONNECTIONS: Final = 256


def load_scripts() -> dict[str, str]:
    """Every script of `lua/`, by name."""
    folder = files("ragtenancy_runtime") / "lua"
    return {
        entry.name.removesuffix(".lua"): entry.read_text()
        for entry in folder.iterdir()
        if entry.name.endswith(".lua")
    }


@dataclass(frozen=True, slots=True)
class _Call:
    """A script that waits for the next pipeline."""

    name: str
    keys: Sequence[str]
    args: Sequence[str | bytes | int]
    result: "asyncio.Future[Any]"


class RedisScripts:
    """One Redis, by its URL.

    A pipeline is tried twice at once: after a restart every pooled connection is dead and fails on
    its first use. Scripts allow for it: running one again under the same id changes nothing.
    """

    def __init__(self, url: str, service: str, timeout: float = 4.0) -> None:
        self._service = service
        self._timeout = timeout
        pool = ConnectionPool.from_url(
            url,
            max_connections=_CONNECTIONS,
            socket_timeout=timeout,
            socket_connect_timeout=min(2.0, timeout),
            retry=Retry(NoBackoff(), 1),
        )
        self._redis: Redis = Redis.from_pool(pool)
        self._sources = load_scripts()
        self._digests = {
            name: hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
            for name, source in self._sources.items()
        }
        self._waiting: list[_Call] = []
        self._running: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def _bounded(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._timeout):
                yield
        except (RedisError, OSError, TimeoutError) as error:
            raise Unavailable(self._service) from error

    async def run(self, name: str, keys: Sequence[str], args: Sequence[str | bytes | int]) -> Any:
        """Run one script."""
        loop = asyncio.get_running_loop()
        call = _Call(name, keys, args, loop.create_future())
        if not self._waiting:
            loop.call_soon(self._flush)
        self._waiting.append(call)
        return await call.result

    def _flush(self) -> None:
        calls, self._waiting = self._waiting, []
        task = asyncio.create_task(self._execute(calls))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _execute(self, calls: list[_Call]) -> None:
        """Run scripts in one pipeline, and hand each caller what became of its own."""
        results: Sequence[Any]
        try:
            async with self._bounded():
                results = await self._pipeline(calls)
                if any(isinstance(result, NoScriptError) for result in results):
                    for name in {call.name for call in calls}:
                        await self._redis.script_load(self._sources[name])
                    results = await self._pipeline(calls)
        except Unavailable as error:
            results = [error.__cause__] * len(calls)
        for call, result in zip(calls, results, strict=True):
            if call.result.done():  # its caller has left
                continue
            if isinstance(result, Exception):
                absence = Unavailable(self._service)
                absence.__cause__ = result
                call.result.set_exception(absence)
            else:
                call.result.set_result(result)

    async def _pipeline(self, calls: list[_Call]) -> Sequence[Any]:
        """The scripts' replies; one that failed has its error in its place.

        Running all of them again after one was missing repeats those that ran: they allow for it.
        """
        pipeline = self._redis.pipeline(transaction=False)
        for call in calls:
            pipeline.evalsha(self._digests[call.name], len(call.keys), *call.keys, *call.args)
        return list(await pipeline.execute(raise_on_error=False))

    async def hash_field(self, key: str, field: str) -> bytes | None:
        """One field of a hash."""
        async with self._bounded():
            return cast("bytes | None", await self._redis.hget(key, field))

    async def hash_fields(self, key: str) -> dict[bytes, bytes]:
        """A whole hash."""
        async with self._bounded():
            return cast("dict[bytes, bytes]", await self._redis.hgetall(key))

    async def ping(self) -> None:
        """Check that Redis answers.

        Raises:
            Unavailable: It does not.
        """
        async with self._bounded():
            await self._redis.ping()

    async def close(self) -> None:
        """Close every connection."""
        await self._redis.aclose()
