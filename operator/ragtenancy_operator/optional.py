"""Kinds whose CRDs somebody else installs: which the API server serves, and our objects of them.

kopf's watches end the process when their CRD is taken away, and never begin when it comes later. So
these few objects are listed every few seconds instead.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

from ragtenancy_operator.errors import KubeError, Refused, Retry
from ragtenancy_operator.kube import PLURALS, Kube
from ragtenancy_operator.names import LABEL_MANAGED_BY, MANAGER
from ragtenancy_operator.store import Manifest, Store, uid_of

_log = logging.getLogger(__name__)
_SERVED_SECONDS: Final = 3.0
"""What is deleted by hand is to be back within 5 s."""
_ABSENT_SECONDS: Final = 15.0

MISSING: Final = {
    "HTTPRoute": Refused(
        "GatewayAPIMissing",
        "spec.api.httpRoute needs the Gateway API: install its CRDs "
        "(gateway.networking.k8s.io/v1) and a controller for them, or use spec.api.ingress",
    ),
    "ServiceMonitor": Refused(
        "ServiceMonitorMissing",
        "spec.observability.serviceMonitor needs the Prometheus operator: install its CRDs "
        "(monitoring.coreos.com/v1), or set enabled to false",
    ),
}
"""What to say of a kind that is wanted and not served, by kind."""


class OptionalKinds:
    """Looks at the optional kinds from time to time.

    Attributes:
        served: Those that the API server serves.
    """

    def __init__(
        self,
        kube: Kube,
        store: Store,
        namespaces: Sequence[str],
        event: Callable[[str | None, dict[str, Any]], None],
        changed: Callable[[str], None],
    ) -> None:
        """Take what is told of objects (as of a watch's events) and of a kind that came or went.

        Args:
            kube: The API server.
            store: Where the objects are kept.
            namespaces: Namespaces to look in; all when empty.
            event: Takes an object in; its first argument is DELETED, or None.
            changed: Called with a kind that came or went.
        """
        self._kube = kube
        self._store = store
        self._namespaces = tuple(namespaces) or ("",)
        self._event = event
        self._changed = changed
        self._said: dict[str, str] = {}
        self.served: frozenset[str] = frozenset()

    async def run(self) -> None:
        """Look for ever."""
        async with asyncio.TaskGroup() as group:
            for kind in MISSING:
                group.create_task(self._run(kind), name=f"optional {kind}")

    async def _run(self, kind: str) -> None:
        while True:
            await asyncio.sleep(_SERVED_SECONDS if kind in self.served else _ABSENT_SECONDS)
            await self._look(kind)

    async def look(self) -> None:
        """Look at each kind once."""
        for kind in MISSING:
            await self._look(kind)

    async def _look(self, kind: str) -> None:
        try:
            await self._list(kind)
        except KubeError as error:
            # who may not list a kind is refused before anybody asks whether it exists
            if error.status not in (403, 404):
                self._say(kind, str(error))
                return
            if error.status == 403:
                self._say(kind, str(error))
            self._set(kind, served=False)
        except Retry as error:
            self._say(kind, str(error))
        else:
            self._set(kind, served=True)

    async def _list(self, kind: str) -> None:
        selector = f"{LABEL_MANAGED_BY}={MANAGER}"
        for namespace in self._namespaces:
            version, found = await self._kube.find_all(kind, namespace, selector)
            for obj in found:
                if self._store.put(obj):
                    self._event(None, obj)
            uids = {uid_of(obj) for obj in found}
            for obj in list(self._store.of_kind(kind)):
                metadata = obj["metadata"]
                here = namespace in ("", metadata["namespace"])
                # what was made after the list was taken is not in it
                older = int(metadata["resourceVersion"]) <= int(version)
                if here and older and uid_of(obj) not in uids:
                    self._event("DELETED", obj)

    def _set(self, kind: str, *, served: bool) -> None:
        if served == (kind in self.served):
            return
        self.served = self.served | {kind} if served else self.served - {kind}
        _log.info("%s: %s", PLURALS[kind][1], "served" if served else "not served")
        if not served:
            self._forget(kind)
        self._changed(kind)

    def _forget(self, kind: str) -> None:
        objects: list[Manifest] = list(self._store.of_kind(kind))
        for obj in objects:
            self._event("DELETED", obj)

    def _say(self, kind: str, text: str) -> None:
        if self._said.get(kind) != text:
            self._said[kind] = text
            _log.warning("%s: %s", kind, text)
