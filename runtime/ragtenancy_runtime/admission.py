"""Admission and settlement: one script each, one round trip each, in the state Redis.

A request is admitted with the tokens it could use at most and settled with what it used. The exact
cache is looked up in its own Redis at the same time. A hit takes only the request rate: its
reservation and lease are given back by a settlement with no tokens. When tokens or concurrency
deny a request that turns out to be a hit, it is admitted once more at no cost and with no lease.
"""

import asyncio
import logging
import math
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, get_args
from uuid import uuid4

from ragtenancy_api.settings import Quotas
from ragtenancy_api.wiring import USED, USED_SECONDS, tenant_key, tombstone_key
from ragtenancy_runtime.errors import (
    Dimension,
    InvalidRequest,
    RateLimited,
    RateLimits,
    Unauthenticated,
    Unavailable,
    Window,
)
from ragtenancy_runtime.ports import Scripts, Tracer
from ragtenancy_runtime.tracing import NO_TRACES, step

LEASE_MS: Final = 30_000
EXTEND_EVERY_S: Final = 10.0
RECORD_MS: Final = 3_600_000
"""How long a request's id is remembered: a settlement repeated after that would count twice."""
LEDGER_S: Final = 400 * 86_400
"""How long a day stays in the ledger: a year and what a late invoice needs."""
DRAIN_S: Final = 10.0

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Usage:
    """Tokens of one request, as the servers counted them."""

    prompt: int = 0
    cached: int = 0
    completion: int = 0
    embedding: int = 0

    def ledger(self) -> dict[str, int]:
        """The entries that this adds to the ledger."""
        return {
            "requests": 1,
            "prompt": self.prompt,
            "cached": self.cached,
            "completion": self.completion,
            "embedding": self.embedding,
        }


@dataclass(frozen=True, slots=True)
class Grant:
    """A request that was admitted."""

    uid: str
    request_id: str
    epoch: str
    """Epoch of the tenant's corpus; empty while a document is being switched: nothing is cached."""
    limits: RateLimits
    leased: bool


def _limit(value: int | None) -> int:
    return -1 if value is None else value


def admit_args(
    quotas: Quotas, request_id: str, cost: int, *, lease: bool = True
) -> list[str | bytes | int]:
    """The arguments of admit.lua for a request of `cost` tokens."""
    rate = _limit(quotas.requests_per_minute)
    burst = quotas.burst if quotas.burst is not None else rate
    return [
        request_id,
        rate,
        burst,
        _limit(quotas.tokens_per_minute),
        _limit(quotas.concurrent_requests),
        cost,
        LEASE_MS if lease else 0,
        RECORD_MS,
        uuid4().hex,
    ]


def rate_limits(quotas: Quotas, reply: list[Any]) -> RateLimits:
    """Where the limits stand, from a reply of admit.lua."""

    def window(limit: int | None, remaining: int, reset_us: int) -> Window | None:
        return None if limit is None else Window(limit, remaining, reset_us / 1e6)

    return RateLimits(
        requests=window(quotas.requests_per_minute, reply[3], reply[4]),
        tokens=window(quotas.tokens_per_minute, reply[5], reply[6]),
    )


@dataclass(slots=True)
class Admission:
    """Admits and settles requests, and keeps the leases of those that run."""

    state: Scripts
    tracer: Tracer = NO_TRACES
    _leases: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    _settling: set[asyncio.Task[None]] = field(default_factory=set)
    _used: dict[str, float] = field(default_factory=dict)
    """When this pod noted a tenant's use, the oldest first."""

    async def admit(
        self,
        uid: str,
        quotas: Quotas,
        request_id: str,
        cost: int,
        *,
        lease: bool = True,
        uses: bool = False,
    ) -> Grant:
        """Admit a request that uses at most `cost` tokens, and the tenant's shard if it `uses` it.

        Raises:
            RateLimited: A quota denies it now.
            InvalidRequest: It could never fit the token quota.
            Unauthenticated: The tenant is being removed.
            Unavailable: Redis is away.
        """
        names = ("requests", "tokens", "leases", "admitted", "epoch", "writing")
        keys = [*(tenant_key(uid, name) for name in names), tombstone_key(uid)]
        admitting = self.state.run("admit", keys, admit_args(quotas, request_id, cost, lease=lease))
        # Both go in one round trip: the use is noted before the shard is touched.
        with step(self.tracer, "admission", {}):
            reply, _ = await asyncio.gather(admitting, self._note_use(uid, uses=uses))
        status = reply[0].decode()
        if status == "gone":
            raise Unauthenticated
        limits = rate_limits(quotas, reply)
        if status == "too_large":
            raise InvalidRequest(
                f"The request may take {cost} tokens, and the limit is "
                f"{quotas.tokens_per_minute} a minute. Send a shorter prompt or a smaller "
                "max_completion_tokens.",
                code="request_too_large",
            )
        for dimension in get_args(Dimension):
            if status == dimension:
                raise RateLimited(dimension, reply[7] / 1e6, limits, reply[2].decode())
        if lease:
            self._leases[uid].add(request_id)
        return Grant(uid, request_id, reply[2].decode(), limits, lease)

    async def _note_use(self, uid: str, *, uses: bool) -> None:
        """Tell the operator that the tenant's shard is in use, once in USED_SECONDS."""
        now = time.monotonic()
        if not uses or now - self._used.get(uid, -math.inf) < USED_SECONDS:
            return
        while self._used and now - (oldest := next(iter(self._used.items())))[1] >= USED_SECONDS:
            del self._used[oldest[0]]
        self._used[uid] = now
        try:
            await self.state.run("use", [tenant_key(uid, USED), tombstone_key(uid)], [])
        except BaseException:
            self._used.pop(uid, None)
            raise

    def settle(self, grant: Grant, usage: Usage) -> None:
        """Settle a request, off the client's path; tried again until Redis confirms it."""
        self._forget(grant)
        task = asyncio.create_task(self._settle(grant, usage.ledger(), usage))
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)

    @asynccontextmanager
    async def held(self, uid: str, quotas: Quotas, request_id: str) -> AsyncIterator[Usage]:
        """Hold a request for documents for a block, which fills in what it used.

        Raises:
            RequestError: As `admit` does.
        """
        grant = await self.admit(uid, quotas, request_id, 0, uses=True)
        usage = Usage()
        try:
            yield usage
        finally:
            self.settle(grant, usage)

    async def _settle(self, grant: Grant, ledger: Mapping[str, int], usage: Usage) -> None:
        names = ("tokens", "leases", "admitted", "usage")
        keys = [*(tenant_key(grant.uid, name) for name in names), tombstone_key(grant.uid)]
        args: list[str | bytes | int] = [
            grant.request_id,
            usage.prompt + usage.completion,
            RECORD_MS,
            LEDGER_S,
        ]
        for name, amount in ledger.items():
            args += [name, amount]
        wait = 0.1
        while True:
            try:
                await self.state.run("settle", keys, args)
            except Unavailable:
                await asyncio.sleep(wait)
                wait = min(wait * 2, 5.0)
            else:
                return

    def _forget(self, grant: Grant) -> None:
        running = self._leases.get(grant.uid)
        if running is not None:
            running.discard(grant.request_id)
            if not running:
                del self._leases[grant.uid]

    async def keep_leases(self) -> None:
        """Extend the leases of running requests, all of this pod's in one batch, for ever."""
        while True:
            await asyncio.sleep(EXTEND_EVERY_S)
            try:
                await self.extend()
            except Unavailable:
                _log.warning("leases could not be extended: the state Redis is away")

    async def extend(self) -> None:
        """Extend every lease of this pod once."""
        calls = [
            self.state.run(
                "extend",
                [tenant_key(uid, "leases"), tenant_key(uid, "admitted")],
                [LEASE_MS, RECORD_MS, *running],
            )
            for uid, running in self._leases.items()
        ]
        for lost in await asyncio.gather(*calls):
            if lost:
                _log.warning("leases were lost before they were extended: %d", len(lost))

    async def drain(self, patience_s: float = DRAIN_S) -> None:
        """Wait until every settlement is confirmed.

        A Redis that stays away must not keep the pod from ending: its reservations then stay spent,
        and its leases run out.
        """
        if not self._settling:
            return
        _, unconfirmed = await asyncio.wait(self._settling, timeout=patience_s)
        for task in unconfirmed:
            task.cancel()
        if unconfirmed:
            _log.error("settlements that were never confirmed: %d", len(unconfirmed))

    async def usage(self, uid: str) -> dict[int, dict[str, int]]:
        """The ledger: what was used, by kind, on each day since 1970."""
        days: dict[int, dict[str, int]] = defaultdict(dict)
        for name, amount in (await self.state.hash_fields(tenant_key(uid, "usage"))).items():
            day, kind = name.decode().split(":")
            days[int(day)][kind] = int(amount)
        return dict(days)
