"""One look at the stores of one RAGDeployment.

It sees; the reconciles mend. What is missing in Weaviate wakes the tenant or the deployment that it
belongs to, whose pass makes it again. The keeper acts itself only where there is no desired object:
it puts shards to sleep, and offers checkpoints.
"""

import logging
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from ragtenancy_api.wiring import CREDENTIAL_STATE_REDIS, SHARED_TENANT
from ragtenancy_operator import names, stores
from ragtenancy_operator.connections import VectorStore
from ragtenancy_operator.deployment.observe import context_of
from ragtenancy_operator.keeper import usage
from ragtenancy_operator.keeper.bound import IDLE_SECONDS, Bound, all_bound, bound
from ragtenancy_operator.keeper.checkpoints import Checkpoints
from ragtenancy_operator.keeper.hot import Hot, Unnoted, choose
from ragtenancy_operator.keeper.usage import Counted
from ragtenancy_operator.metrics import KeeperMeter
from ragtenancy_operator.services import Services
from ragtenancy_operator.store import Key, Manifest, key_of, uid_of
from ragtenancy_operator.stores import Change, State
from ragtenancy_operator.weaviate import NoCollection

_log = logging.getLogger(__name__)
_COUNTS_A_PASS: Final = 500
_SAID_FOR: Final = timedelta(days=1)
"""How long a condition says that the state Redis was lost: until its day's usage is whole again."""
Collections = tuple[str, str]
Tenants = dict[Collections, tuple[dict[str, bool], dict[str, bool]]]
"""Tenants of each pair of collections, and whether they are active."""


@dataclass
class Memory:
    """What is remembered of one deployment between two looks; it may be lost at any time.

    Attributes:
        changes: What was last seen of each tenant in the state Redis.
        usage: Usage of each tenant, as last read.
        counted: Documents of each tenant, as last counted.
        unnoted: Active tenants of whose use nothing is noted.
        missing: What was missing at the last look: collections and tenants by name.
        trouble: Why the last look failed.
        beyond: Active tenants beyond the limit at the last look.
    """

    changes: dict[str, Change] = field(default_factory=dict)
    usage: dict[str, dict[str, Any]] = field(default_factory=dict)
    counted: dict[str, Counted] = field(default_factory=dict)
    unnoted: Unnoted = field(default_factory=Unnoted)
    missing: set[tuple[str, str]] = field(default_factory=set)
    trouble: str = ""
    beyond: int = 0


class Look:
    """One look at the stores of one deployment."""

    def __init__(
        self,
        services: Services,
        meter: KeeperMeter,
        checkpoints: Checkpoints,
        memory: Memory,
        raw: Manifest,
    ) -> None:
        self._services = services
        self._meter = meter
        self._checkpoints = checkpoints
        self._memory = memory
        self._raw = raw
        self._key = key_of(raw)
        self._where = (self._key.namespace, self._key.name)
        self._now = time.time()

    async def look(self) -> None:
        """Look once.

        Raises:
            Retry: A store does not answer.
            Refused: A credential is missing, or a store does not take it.
        """
        services, context = self._services, context_of(self._services, self._raw)
        connection = await services.connections.vector_store(context)
        url = await services.connections.redis_url(context, CREDENTIAL_STATE_REDIS)
        # Before Weaviate is asked: a binding is made after its tenant's place, and hears of its
        # release before that is cleared. So each of these has a place, unless it is damaged.
        tenants = all_bound(services.store.of_deployment(*self._where, "RAGBinding"))
        async with stores.state(url) as state:
            await self._here(state, tenants)
            changed = await self._changes(state, tenants)
            await self._usage(state, tenants, changed)
            places = await self._places(connection, tenants)
            await self._documents(connection, tenants, places)
            self._offer(tenants)
            limit = context.deployment.spec.vector_store.max_active_tenants
            await self._sleep(connection, state, tenants, places, limit)

    # -- whether the state Redis still knows us

    async def _here(self, state: State, tenants: list[Bound]) -> None:
        services, uid = self._services, uid_of(self._raw)
        note = await state.here(uid)
        if note is None:
            since = datetime.fromtimestamp(self._now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            counted = any((each.usage or {}).get("requests") for each in tenants)
            note = f"{'lost' if counted else 'new'} {since}"
            await state.set_here(uid, note)
            if counted:
                self._memory.changes.clear()
                self._memory.usage.clear()
                self._meter.repaired(self._where, "state")
                await services.events.post(
                    self._raw,
                    "Warning",
                    "StateLost",
                    f"the state Redis was found empty at {since}: usage is counted anew since "
                    "then, and what was counted before is in the RAGBindings' status",
                )
        what, _, since = note.partition(" ")
        fresh = datetime.fromtimestamp(self._now, UTC) - datetime.fromisoformat(since) < _SAID_FOR
        lost = since if what == "lost" and fresh else None
        if services.findings.state_lost.get(uid) != lost:
            if lost is None:
                services.findings.state_lost.pop(uid)
            else:
                services.findings.state_lost[uid] = lost
            services.queue.wake(self._key, cause="what is known of its state Redis changed")

    # -- usage

    async def _changes(self, state: State, tenants: list[Bound]) -> set[str]:
        """Read what tells of changes; gives the tenants whose usage may have changed."""
        memory = self._memory
        days = usage.recent_days(datetime.fromtimestamp(self._now, UTC))
        found = await state.changes([each.uid for each in tenants], days)
        before, memory.changes = memory.changes, found
        return {
            uid
            for uid, change in found.items()
            if uid not in before or before[uid].requests != change.requests
        }

    async def _usage(self, state: State, tenants: list[Bound], changed: set[str]) -> None:
        memory = self._memory
        there = {each.uid for each in tenants}
        memory.usage = {uid: held for uid, held in memory.usage.items() if uid in there}
        memory.counted = {uid: held for uid, held in memory.counted.items() if uid in there}
        days = {
            uid: max(day for day, _ in memory.changes[uid].requests)
            for uid in changed
            if memory.changes[uid].requests
        }
        # one that this process never saw may have been used before, while nobody looked
        unseen = changed - days.keys() - memory.usage.keys()
        days |= await state.last_days(unseen)
        for uid, ledger in (await state.ledger(days)).items():
            memory.usage[uid] = usage.usage_of(days[uid], ledger)

    def _offer(self, tenants: list[Bound]) -> None:
        memory = self._memory
        for each in tenants:
            patch = usage.patch(each, memory.usage.get(each.uid), memory.counted.get(each.uid))
            if patch:
                self._checkpoints.offer(self._where, each, patch)
            else:
                self._checkpoints.withdraw(self._where, each.binding)

    # -- what is missing in Weaviate

    async def _places(self, connection: VectorStore, tenants: list[Bound]) -> Tenants:
        """The Weaviate tenants that there are; what is missing wakes whoever makes it."""
        shared = names.collections(uid_of(self._raw))
        places: Tenants = {}
        missing: set[tuple[str, str]] = set()
        wake: set[Key] = set()
        for pair in {shared, *(each.collections for each in tenants)}:
            try:
                places[pair] = (
                    await connection.client.tenants(pair[0]),
                    await connection.client.tenants(pair[1]),
                )
            except NoCollection:
                missing.add(("collection", pair[0]))
                if pair == shared:
                    wake.add(self._key)
        for each in tenants:
            held = places.get(each.collections)
            if held is not None and all(each.share.tenant in there for there in held):
                continue
            if not self._still(each):
                continue
            if held is not None:
                missing.add(("tenant", f"{each.collections[0]}/{each.share.tenant}"))
            if held is not None or each.collections != shared:
                wake.add(each.tenant)
        self._found_missing(connection, missing, wake)
        return places

    def _still(self, each: Bound) -> bool:
        """Whether a tenant is served even now: its place may have been cleared meanwhile."""
        binding = self._services.store.get(*each.binding)
        return binding is not None and bound(binding) is not None

    def _found_missing(
        self, connection: VectorStore, missing: set[tuple[str, str]], wake: set[Key]
    ) -> None:
        memory = self._memory
        for kind, name in memory.missing - missing:
            _log.info("%s %s of %s is there again", kind, name, self._key)
            self._meter.repaired(self._where, kind)
        if missing:
            connection.placements.forget()
            for key in wake:
                self._services.queue.wake(key, cause="something is missing in Weaviate")
        new = missing - memory.missing
        if new:
            some = ", ".join(f"{kind} {name}" for kind, name in sorted(new)[:3])
            _log.warning("%d missing in the Weaviate of %s: %s", len(new), self._key, some)
        memory.missing = missing

    # -- documents

    def _to_count(self, each: Bound) -> bool:
        """Whether a tenant's documents may be others than when they were counted."""
        change, counted = self._memory.changes.get(each.uid), self._memory.counted.get(each.uid)
        if change is None or not change.epoch:
            return False
        return counted is None or (counted.epoch, counted.lost_at) != (change.epoch, each.lost_at)

    async def _documents(
        self, connection: VectorStore, tenants: list[Bound], places: Tenants
    ) -> None:
        """Count documents where they may have changed. One that sleeps is not woken for that."""
        due = [
            each
            for each in tenants
            if self._to_count(each)
            and places.get(each.collections, ({}, {}))[0].get(each.share.tenant)
        ][:_COUNTS_A_PASS]
        for collection in {each.collections[0] for each in due}:
            here = [each for each in due if each.collections[0] == collection]
            counts = await connection.client.counts(collection, [each.share for each in here])
            for each in here:
                if each.share in counts:
                    epoch = self._memory.changes[each.uid].epoch
                    self._memory.counted[each.uid] = Counted(
                        counts[each.share], epoch, each.lost_at
                    )

    # -- the hot set

    async def _sleep(
        self,
        connection: VectorStore,
        state: State,
        tenants: list[Bound],
        places: Tenants,
        limit: int,
    ) -> None:
        memory = self._memory
        owners = {(each.collections, each.share.tenant): each for each in tenants}
        active = [
            (pair, name)
            for pair, (documents, chunks) in places.items()
            for name in documents.keys() | chunks.keys()
            if documents.get(name) or chunks.get(name)
        ]

        def uid(place: tuple[Collections, str]) -> str:
            return owners[place].uid if place in owners else place[1]

        noted = await state.used([uid(place) for place in active])
        used = memory.unnoted.last_uses([uid(place) for place in active], noted, self._now)
        shards = [
            Hot(
                *place,
                used=used[uid(place)],
                idle_seconds=owners[place].idle_seconds if place in owners else IDLE_SECONDS,
                pinned=place[1] == SHARED_TENANT
                or (place in owners and self._to_count(owners[place])),
            )
            for place in active
        ]
        choice = choose(shards, limit, self._now)
        slept = 0
        for pair in {shard.collections for shard in choice.sleep}:
            chosen = {uid((pair, s.name)): s for s in choice.sleep if s.collections == pair}
            # asked again: whoever came in meanwhile is not put to sleep under their hands
            latest = await state.used(chosen)
            sleep = [
                shard.name for uid, shard in chosen.items() if latest.get(uid, 0.0) <= shard.used
            ]
            for collection, held in zip(pair, places[pair], strict=True):
                await connection.client.deactivate(collection, [n for n in sleep if held.get(n)])
            slept += len(sleep)
        self._meter.deactivated(self._where, slept)
        self._meter.active(self._where, len(shards) - slept, choice.beyond)
        if choice.beyond and not memory.beyond:
            _log.warning(
                "%s has %d active tenants beyond maxActiveTenants (%d), all of them in use",
                self._key,
                choice.beyond,
                limit,
            )
        memory.beyond = choice.beyond
