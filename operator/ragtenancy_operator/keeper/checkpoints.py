"""Writes usage and document counts into RAGBindings, within a budget for each RAGDeployment."""

import asyncio
import logging
from dataclasses import dataclass
from typing import Any, Final

from ragtenancy_operator.errors import KubeError, Retry
from ragtenancy_operator.keeper.bound import Bound, bound
from ragtenancy_operator.metrics import KeeperMeter
from ragtenancy_operator.services import Services
from ragtenancy_operator.store import Key

_log = logging.getLogger(__name__)
PAUSE_SECONDS: Final = 0.4
"""Between two writes for a deployment. Each is followed by one of the tenant's own status, which
copies it: together at most five a second."""


@dataclass(frozen=True, slots=True)
class _Offer:
    seen: Bound
    patch: dict[str, Any]


class Checkpoints:
    """What is to be written, by deployment; who waits longest comes first."""

    def __init__(self, services: Services, meter: KeeperMeter) -> None:
        self._services = services
        self._meter = meter
        self._waiting: dict[tuple[str, str], dict[Key, _Offer]] = {}

    def offer(self, deployment: tuple[str, str], seen: Bound, patch: dict[str, Any]) -> None:
        """Have a patch of a binding's status written, in place of one that still waits."""
        self._waiting.setdefault(deployment, {})[seen.binding] = _Offer(seen, patch)

    def withdraw(self, deployment: tuple[str, str], binding: Key) -> None:
        """Have nothing written for a binding."""
        self._waiting.get(deployment, {}).pop(binding, None)

    async def run(self) -> None:
        """Write, for ever."""
        while True:
            await asyncio.sleep(PAUSE_SECONDS)
            due = [(where, waiting) for where, waiting in self._waiting.items() if waiting]
            self._waiting = dict(due)
            await asyncio.gather(
                *(self._write(where, waiting.pop(next(iter(waiting)))) for where, waiting in due)
            )

    async def _write(self, deployment: tuple[str, str], offer: _Offer) -> None:
        services, seen = self._services, offer.seen
        held = services.store.get(*seen.binding)
        now = bound(held) if held is not None else None
        if now is None or (now.uid, now.lost_at) != (seen.uid, seen.lost_at):
            return  # what was counted is gone since; the next look counts anew
        try:
            patched = await services.kube.merge(*seen.binding, {"status": offer.patch}, "status")
        except KubeError as error:
            if not error.not_found:
                _log.warning("%s was not checkpointed: %s", seen.binding, error)
            return
        except Retry as error:
            _log.warning("%s was not checkpointed: %s", seen.binding, error)
            return
        services.store.put(patched)
        self._meter.checkpointed(deployment)
        if "lostAt" in offer.patch:
            # its condition counts those whose documents are lost
            key = Key("RAGDeployment", *deployment)
            services.queue.wake(key, after=1.0, cause="lost documents were loaded again")
