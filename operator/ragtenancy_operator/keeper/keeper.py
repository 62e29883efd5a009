"""The keeper's loop: one look at each RAGDeployment's stores every few seconds, on the leader."""

import asyncio
import logging
import time
from collections.abc import Iterable
from typing import Final

from ragtenancy_operator import names
from ragtenancy_operator.errors import Refused, Retry
from ragtenancy_operator.keeper.checkpoints import Checkpoints
from ragtenancy_operator.keeper.look import Look, Memory
from ragtenancy_operator.metrics import KeeperMeter
from ragtenancy_operator.services import Services
from ragtenancy_operator.store import Key, Manifest, annotations_of, holds, key_of, uid_of

_log = logging.getLogger(__name__)
_PACE_SECONDS: Final = 0.001
"""Between two looks, for each tenant. A look at 10,000 tenants takes the process half a second: it
is at it for a twentieth of the time, however many there are."""
_LONGEST_SECONDS: Final = 30.0
"""Damage is noticed within a minute, also then."""
_PATIENCE_SECONDS: Final = 20.0


class Keeper:
    """Looks after the stores of every RAGDeployment that is served by them."""

    def __init__(self, services: Services, meter: KeeperMeter) -> None:
        self._services = services
        self._meter = meter
        self._memories: dict[Key, tuple[str, Memory]] = {}
        self._checkpoints = Checkpoints(services, meter)

    async def run(self) -> None:
        """Look, for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._checkpoints.run(), name="checkpoints")
            group.create_task(self._keep(), name="keeper")

    async def _keep(self) -> None:
        while True:
            deployments = list(self._services.store.of_kind("RAGDeployment"))
            self._forget(deployments)
            # one that does not answer holds up no other
            await asyncio.gather(*(self._look_at(raw) for raw in deployments if _served(raw)))
            tenants = sum(1 for _ in self._services.store.of_kind("RAGBinding"))
            pause = max(self._services.settings.keeper_seconds, tenants * _PACE_SECONDS)
            await asyncio.sleep(min(pause, _LONGEST_SECONDS))

    def _forget(self, deployments: Iterable[Manifest]) -> None:
        there = {key_of(raw): uid_of(raw) for raw in deployments}
        for key, (uid, _) in list(self._memories.items()):
            if there.get(key) != uid:
                del self._memories[key]
                self._services.findings.state_lost.pop(uid, None)
                self._meter.forget((key.namespace, key.name))

    async def _look_at(self, raw: Manifest) -> None:
        key, started = key_of(raw), time.monotonic()
        memory = self._memories.setdefault(key, (uid_of(raw), Memory()))[1]
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await Look(self._services, self._meter, self._checkpoints, memory, raw).look()
            memory.trouble = ""
        except (Retry, Refused, TimeoutError) as error:
            text = str(error) or "no answer in time"
            if not memory.trouble:
                _log.warning("the stores of %s cannot be looked after: %s", key, text)
                # its own pass says so in a condition, and tries again
                self._services.queue.wake(key, cause="the keeper was not answered")
            memory.trouble = text
        except Exception:
            _log.exception("looking after the stores of %s failed", key)
        self._meter.passed((key.namespace, key.name), time.monotonic() - started)


def _served(raw: Manifest) -> bool:
    return (
        not raw["metadata"].get("deletionTimestamp")
        and annotations_of(raw).get(names.ANNOTATION_PAUSED) != "true"
        and holds(raw, "VectorStoreReady")
        and holds(raw, "StateReady")
    )
