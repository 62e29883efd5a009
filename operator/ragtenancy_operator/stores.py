"""The one place that talks to the two Redis: whether they answer, what they know, emptying them."""

import uuid
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, InvalidResponse, RedisError, ResponseError

from ragtenancy_api.wiring import USED, cache_keys, state_keys, tenant_key, tombstone_key
from ragtenancy_operator.errors import Refused, Retry
from ragtenancy_operator.reach import no_connection

_TOMBSTONE_SECONDS: Final = 24 * 3600
"""Longer than any request may live: a script that sees the tombstone writes nothing."""
_TIMEOUT_SECONDS: Final = 3.0
_BATCH: Final = 500
"""Tenants in one pipeline: some ten milliseconds of this process."""
_HERE: Final = "here"
LEDGER: Final = ("requests", "prompt", "cached", "completion", "embedding")
"""What the ledger counts on each day: field ``DAY:KIND`` of a tenant's ``usage``, DAY since 1970.
The runtime's settle.lua writes it."""


def check_url(url: str, field: str, *, tls: bool) -> None:
    """Check that a URL, which holds a password and is in no message, is one of a Redis.

    Args:
        url: The URL.
        field: The field that refers to it, for the message.
        tls: Whether its certificate is to be verified by a CA of the deployment's own.

    Raises:
        Refused: It is none.
    """
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("redis", "rediss") and bool(parts.hostname) and parts.port != 0
        valid = valid and (parts.path.strip("/") or "0").isdigit()
    except ValueError:
        valid = False
    if not valid:
        raise Refused(
            "RedisURL",
            f"{field}: it is no URL of a Redis: write redis://:PASSWORD@HOST:PORT/0, or rediss:// "
            "for TLS, with what is special in the password percent-encoded",
        )
    if tls and parts.scheme != "rediss":
        raise Refused("RedisURL", f"{field}: with tls, the URL must begin with rediss://")


def _client(url: str) -> Redis:
    return Redis.from_url(
        url,
        socket_timeout=_TIMEOUT_SECONDS,
        socket_connect_timeout=_TIMEOUT_SECONDS,
        retry=AsyncRetry(NoBackoff(), 0),
    )


async def ping(url: str) -> None:
    """Ask a Redis whether it answers.

    Raises:
        Unreachable: It does not, yet.
        Refused: It refuses the credentials, has another CA's certificate, or is no Redis.
    """
    try:
        async with _client(url) as redis:
            await redis.ping()
    except AuthenticationError as error:
        raise Refused("CredentialsRefused", "Redis refuses the user or password") from error
    except (InvalidResponse, ResponseError) as error:
        raise Refused("NotRedis", "what answers there is no Redis") from error
    except (RedisError, OSError, TimeoutError) as error:
        raise no_connection("Redis", error) from error


async def stop_writers(url: str, uid: str) -> None:
    """Leave a tombstone in the state Redis, and see that no document is being written any more.

    A writer's claim (the runtime's claim.lua: ``WRITER DEADLINE SWITCHING``) is extended between
    its writes, which the tombstone refuses: the writer then stops, and gives the claim back.

    Raises:
        Retry: One still writes, for a minute at most, or Redis does not answer.
    """
    try:
        async with _client(url) as redis, redis.pipeline(transaction=True) as pipeline:
            pipeline.set(tombstone_key(uid), b"1", ex=_TOMBSTONE_SECONDS)
            pipeline.hvals(tenant_key(uid, "writing"))
            pipeline.time()
            _, claims, (seconds, _) = await pipeline.execute()
    except (RedisError, OSError, TimeoutError) as error:
        raise Retry(f"the state Redis does not answer: {type(error).__name__}") from error
    if any(int(claim.split()[1]) > seconds * 1000 for claim in claims):
        raise Retry("a document of the tenant is still being written")


async def purge(url: str, uid: str, *, which: str) -> None:
    """Leave a tombstone for the tenant and unlink all of its keys.

    Args:
        url: URL of the Redis.
        uid: Uid of the tenant.
        which: ``state`` or ``cache``.

    Raises:
        Retry: Redis did not confirm it.
    """
    keys = {"state": state_keys, "cache": cache_keys}[which](uid)
    try:
        async with (
            _client(url) as redis,
            redis.pipeline(transaction=True) as pipeline,
        ):
            pipeline.set(tombstone_key(uid), b"1", ex=_TOMBSTONE_SECONDS)
            pipeline.unlink(*keys)
            await pipeline.execute()
    except (RedisError, OSError, TimeoutError) as error:
        raise Retry(f"the {which} Redis does not answer: {type(error).__name__}") from error


class Change(NamedTuple):
    """What tells whether anything about a tenant has changed.

    Attributes:
        epoch: Of its corpus: another one after each change of a document; empty before any use.
        requests: Requests by day, of the days that were asked about and had any.
    """

    epoch: str
    requests: tuple[tuple[int, int], ...]


class State:
    """What a state Redis knows, read in pipelines over one connection."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def _ask(
        self, uids: Collection[str], ask: Callable[[Any, str], object]
    ) -> list[tuple[str, Any]]:
        """The reply to one command for each tenant."""
        asked, replies = list(uids), list[tuple[str, Any]]()
        for at in range(0, len(asked), _BATCH):
            names = asked[at : at + _BATCH]
            async with self._redis.pipeline(transaction=False) as pipeline:
                for uid in names:
                    ask(pipeline, uid)
                replies += zip(names, await pipeline.execute(), strict=True)
        return replies

    async def used(self, uids: Collection[str]) -> dict[str, float]:
        """When tenants were last used, in Unix seconds; those without a note are left out."""
        replies = await self._ask(uids, lambda redis, uid: redis.get(tenant_key(uid, USED)))
        return {uid: float(reply) for uid, reply in replies if reply is not None}

    async def changes(self, uids: Collection[str], days: Sequence[int]) -> dict[str, Change]:
        """What tells of changes, by tenant."""
        fields = [f"{day}:{LEDGER[0]}" for day in days]
        epochs = await self._ask(uids, lambda redis, uid: redis.get(tenant_key(uid, "epoch")))
        counts = await self._ask(
            uids, lambda redis, uid: redis.hmget(tenant_key(uid, "usage"), fields)
        )
        return {
            uid: Change(
                epoch.decode() if epoch else "",
                tuple((day, int(n)) for day, n in zip(days, numbers, strict=True) if n),
            )
            for (uid, epoch), (_, numbers) in zip(epochs, counts, strict=True)
        }

    async def last_days(self, uids: Collection[str]) -> dict[str, int]:
        """The last day that the ledger knows of; tenants without one are left out."""
        replies = await self._ask(uids, lambda redis, uid: redis.hkeys(tenant_key(uid, "usage")))
        days = ((uid, [int(field.split(b":")[0]) for field in fields]) for uid, fields in replies)
        return {uid: max(held) for uid, held in days if held}

    async def ledger(self, days: Mapping[str, int]) -> dict[str, dict[str, int]]:
        """What was used on one day, by tenant and kind."""
        replies = await self._ask(
            days,
            lambda redis, uid: redis.hmget(
                tenant_key(uid, "usage"), [f"{days[uid]}:{kind}" for kind in LEDGER]
            ),
        )
        return {
            uid: {kind: int(n or 0) for kind, n in zip(LEDGER, numbers, strict=True)}
            for uid, numbers in replies
        }

    async def renew_epochs(self, uids: Collection[str]) -> None:
        """Start a new epoch of tenants that have one: what was answered before is not repeated."""
        await self._ask(
            uids,
            lambda redis, uid: redis.set(tenant_key(uid, "epoch"), uuid.uuid4().hex, xx=True),
        )

    async def here(self, deployment_uid: str) -> str | None:
        """What was noted with :meth:`set_here`; None: this Redis is new, or was emptied."""
        reply = await self._redis.get(tenant_key(deployment_uid, _HERE))
        return reply.decode() if isinstance(reply, bytes) else reply

    async def set_here(self, deployment_uid: str, note: str) -> None:
        """Leave a note that is gone when all is."""
        await self._redis.set(tenant_key(deployment_uid, _HERE), note)

    async def forget_here(self, deployment_uid: str) -> None:
        """Take the note away, with the deployment."""
        await self._redis.unlink(tenant_key(deployment_uid, _HERE))


@asynccontextmanager
async def state(url: str) -> AsyncIterator[State]:
    """Read from a state Redis.

    Raises:
        Retry: It does not answer.
        Refused: The URL is none.
    """
    try:
        async with _client(url) as redis:
            yield State(redis)
    except (RedisError, OSError, TimeoutError) as error:
        raise Retry(f"the state Redis does not answer: {type(error).__name__}") from error
