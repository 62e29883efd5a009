"""The one place that talks to the two Redis: whether they answer, and emptying them of a tenant."""

from typing import Final

from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, RedisError

from ragtenancy_api.wiring import cache_keys, state_keys, tombstone_key
from ragtenancy_operator.errors import Refused, Retry

_TOMBSTONE_SECONDS: Final = 24 * 3600
"""Longer than any request may live: a script that sees the tombstone writes nothing."""
_TIMEOUT_SECONDS: Final = 5.0


def _client(url: str) -> Redis:
    try:
        return Redis.from_url(
            url, socket_timeout=_TIMEOUT_SECONDS, socket_connect_timeout=_TIMEOUT_SECONDS
        )
    except ValueError as error:
        # the URL carries a password: it is in no message
        raise Refused(
            "RedisURL", "the Redis URL is none: write redis://:PASSWORD@HOST:PORT/0"
        ) from error


async def ping(url: str) -> None:
    """Ask a Redis whether it answers.

    Raises:
        Retry: It does not, yet.
        Refused: It refuses the credentials, or the URL is none.
    """
    try:
        async with _client(url) as redis:
            await redis.ping()
    except AuthenticationError as error:
        raise Refused("RedisCredentials", "Redis refuses the user or password") from error
    except (RedisError, OSError, TimeoutError) as error:
        raise Retry(f"Redis does not answer ({type(error).__name__})") from error


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
