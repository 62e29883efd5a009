"""The exact cache: the answer to the very same request, of the same tenant, under the same corpus.

One hash a tenant, a field per request, each with its own expiry. The epoch stands in the value and
is compared on reading: the lookup can then run while admission still asks for the epoch, and an
answer that is written late, under an epoch that has passed, can never be read.

The cache may be slow, away or empty at any time; no request fails or waits for it beyond
`PATIENCE_S`.
"""

import asyncio
import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any, Final

from ragtenancy_api.wiring import tenant_key, tombstone_key
from ragtenancy_runtime.citations import Citation
from ragtenancy_runtime.errors import Unavailable
from ragtenancy_runtime.ports import Scripts
from ragtenancy_runtime.prompt import Source

PATIENCE_S: Final = 0.05
MAX_BYTES: Final = 1_048_576
"""Longer answers are not kept: one would push out thousands of others."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CachedAnswer:
    """A finished answer, with all that replaying it takes."""

    epoch: str
    model: str
    created: int
    content: str
    finish_reason: str
    sources: list[Source] | None
    citations: list[Citation]
    prompt_tokens: int
    completion_tokens: int

    def dump(self) -> bytes:
        """This answer as the cache keeps it."""
        return json.dumps(asdict(self), ensure_ascii=False).encode()

    @classmethod
    def load(cls, data: bytes) -> "CachedAnswer":
        """Read what `dump` wrote.

        Raises:
            ValueError: Something else wrote it.
        """
        try:
            value = json.loads(data)
            if value["sources"] is not None:
                value["sources"] = [Source(**source) for source in value["sources"]]
            value["citations"] = [Citation(**citation) for citation in value["citations"]]
            return cls(**value)
        except (KeyError, TypeError) as error:
            raise ValueError("not a cached answer") from error


def request_key(parts: Mapping[str, Any]) -> str:
    """The hash of everything that an answer depends on, its epoch apart.

    Canonical JSON: sorted keys, nothing normalised away. JSON quotes every string, so no two
    different requests can be written alike.
    """
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


@dataclass(slots=True)
class ExactCache:
    """Looks answers up and keeps them, in the cache Redis."""

    redis: Scripts

    async def look_up(self, uid: str, key: str) -> CachedAnswer | None:
        """What is kept under a key, of whatever epoch; None also when the cache is slow or away."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                data = await self.redis.hash_field(tenant_key(uid, "exact"), key)
        except (Unavailable, TimeoutError):
            return None
        if data is None:
            return None
        try:
            return CachedAnswer.load(data)
        except ValueError:
            _log.warning("an entry of the exact cache is not an answer; it is passed over")
            return None

    async def keep(self, uid: str, key: str, answer: CachedAnswer, ttl: timedelta) -> None:
        """Keep an answer for a while, if the cache takes it."""
        data = answer.dump()
        if len(data) > MAX_BYTES:
            return
        keys = [tenant_key(uid, "exact"), tombstone_key(uid)]
        life = int(ttl.total_seconds() * 1000)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self.redis.run("cache_put", keys, [key, data, life])
        except (Unavailable, TimeoutError):
            _log.warning("an answer was not cached: the cache Redis is slow or away")

    async def drop(self, uid: str) -> None:
        """Drop a tenant's answers, to free memory: the epoch has made them unreadable already."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self.redis.run("cache_drop", [tenant_key(uid, "exact")], [])
        except (Unavailable, TimeoutError):
            _log.warning("old answers were not dropped: the cache Redis is slow or away")
