"""Leadership by a Lease, on monotonic clocks.

``kubernetes.aio.leaderelection`` compares wall clocks of two machines; here a candidate only
measures, with its own monotonic clock, how long the Lease has stood unchanged (as client-go does).
"""

import asyncio
import logging
from datetime import UTC, datetime
from typing import Final

from ragtenancy_operator.errors import KubeError, Retry
from ragtenancy_operator.kube import Kube
from ragtenancy_operator.names import LEASE
from ragtenancy_operator.store import Manifest

_log = logging.getLogger(__name__)
_RENEWALS: Final = 4
"""Renewals in one lease's time."""


class Lost(Exception):
    """Another process may lead now; this one must end."""


class Lease:
    """One candidate for leadership."""

    def __init__(self, kube: Kube, namespace: str, identity: str, seconds: float) -> None:
        self._kube = kube
        self._namespace = namespace
        self._identity = identity
        self._seconds = seconds
        self._held: Manifest | None = None

    def _body(self, found: Manifest | None) -> Manifest:
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        spec = dict((found or {}).get("spec") or {})
        if spec.get("holderIdentity") != self._identity:
            spec["acquireTime"] = now
            spec["leaseTransitions"] = spec.get("leaseTransitions", 0) + (found is not None)
        spec |= {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": max(1, round(self._seconds)),
            "renewTime": now,
        }
        metadata = {"name": LEASE, "namespace": self._namespace}
        if found is not None:
            metadata["resourceVersion"] = found["metadata"]["resourceVersion"]
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": metadata,
            "spec": spec,
        }

    async def acquire(self) -> None:
        """Wait until this process leads."""
        clock = asyncio.get_running_loop().time
        seen, since = "", clock()
        while True:
            try:
                found = await self._kube.find("Lease", self._namespace, LEASE)
                if found is None:
                    self._held = await self._kube.create(self._body(None))
                    return
                version = found["metadata"]["resourceVersion"]
                if version != seen:
                    seen, since = version, clock()
                holder = found["spec"].get("holderIdentity")
                lasts = found["spec"].get("leaseDurationSeconds", self._seconds)
                if not holder or holder == self._identity or clock() - since > lasts:
                    self._held = await self._kube.replace(self._body(found))
                    return
            except KubeError as error:
                if error.status != 409:
                    _log.warning("the lease could not be taken: %s", error)
            except Retry as error:
                _log.warning("the lease could not be taken: %s", error)
            await asyncio.sleep(self._seconds / _RENEWALS / 2)

    async def keep(self) -> None:
        """Renew the lease for ever.

        Raises:
            Lost: It was taken, or could not be renewed before it ran out.
        """
        clock = asyncio.get_running_loop().time
        renewed = clock()
        while True:
            await asyncio.sleep(self._seconds / _RENEWALS)
            left = renewed + self._seconds * 0.8 - clock()
            if left <= 0:
                raise Lost("the lease could not be renewed in time")
            try:
                async with asyncio.timeout(left):
                    attempt = clock()
                    self._held = await self._kube.replace(self._body(self._held))
                    renewed = attempt
            except KubeError as error:
                if error.status == 409:
                    raise Lost("the lease was taken by another process") from error
                _log.warning("the lease was not renewed: %s", error)
            except (Retry, TimeoutError) as error:
                _log.warning("the lease was not renewed: %s", error)

    async def release(self) -> None:
        """Give the lease back, so that another process need not wait for its end."""
        if self._held is None:
            return
        body = self._body(self._held)
        body["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
        try:
            await self._kube.replace(body)
        except Retry as error:
            _log.warning("the lease was not given back: %s", error)
