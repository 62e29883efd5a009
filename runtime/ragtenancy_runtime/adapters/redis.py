"""Redis: runs the Lua files of `lua/`, with a bound on every wait."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any, Final, cast

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from ragtenancy_runtime.errors import Unavailable

_CONNECTIONS: Final = 64


def load_scripts() -> dict[str, str]:
    """Every script of `lua/`, by name."""
    folder = files("ragtenancy_runtime") / "lua"
    return {
        entry.name.removesuffix(".lua"): entry.read_text()
        for entry in folder.iterdir()
        if entry.name.endswith(".lua")
    }


class RedisScripts:
    """One Redis, by its URL.

    A command is tried twice at once: after a restart every pooled connection is dead and fails on
    its first use. Scripts allow for it: running one again under the same id changes nothing.
    """

    def __init__(self, url: str, service: str, timeout: float = 2.0) -> None:
        self._service = service
        self._timeout = timeout
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=_CONNECTIONS,
            timeout=timeout,
            socket_timeout=timeout,
            socket_connect_timeout=min(1.0, timeout),
            retry=Retry(NoBackoff(), 1),
        )
        self._redis: Redis = Redis.from_pool(pool)
        self._sources = load_scripts()
        self._digests = {
            name: hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
            for name, source in self._sources.items()
        }

    @asynccontextmanager
    async def _bounded(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._timeout):
                yield
        except (RedisError, OSError, TimeoutError) as error:
            raise Unavailable(self._service) from error

    async def run(self, name: str, keys: Sequence[str], args: Sequence[str | bytes | int]) -> Any:
        """Run one script."""
        async with self._bounded():
            try:
                return await self._redis.evalsha(self._digests[name], len(keys), *keys, *args)
            except NoScriptError:
                return await self._redis.eval(self._sources[name], len(keys), *keys, *args)

    async def run_each(
        self, name: str, calls: Sequence[tuple[Sequence[str], Sequence[str | bytes | int]]]
    ) -> list[Any]:
        """Run one script for several sets of keys, in one pipeline."""
        async with self._bounded():
            await self._redis.script_load(self._sources[name])
            pipeline = self._redis.pipeline(transaction=False)
            for keys, args in calls:
                pipeline.evalsha(self._digests[name], len(keys), *keys, *args)
            return list(await pipeline.execute())

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
