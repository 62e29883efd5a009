"""Kubernetes Events on users' objects, for what a person would want to know."""

import logging
from datetime import UTC, datetime
from typing import Literal

from ragtenancy_operator.errors import Retry
from ragtenancy_operator.kube import Kube
from ragtenancy_operator.names import MANAGER
from ragtenancy_operator.store import Manifest, uid_of

_log = logging.getLogger(__name__)


class Events:
    """Posts events; the same one about the same object is posted once in a process's life."""

    def __init__(self, kube: Kube, identity: str) -> None:
        self._kube = kube
        self._identity = identity
        self._last: dict[tuple[str, str], str] = {}

    def forget(self, uid: str) -> None:
        """Drop what is remembered of an object that is gone."""
        self._last = {key: note for key, note in self._last.items() if key[0] != uid}

    async def post(
        self, obj: Manifest, kind: Literal["Normal", "Warning"], reason: str, message: str
    ) -> None:
        """Post an event. One that cannot be posted is logged: it must not stop the reconcile."""
        key = (uid_of(obj), reason)
        if self._last.get(key) == message:
            return
        metadata = obj["metadata"]
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "generateName": f"{metadata['name'][:200]}.",
                "namespace": metadata["namespace"],
            },
            "involvedObject": {
                "apiVersion": obj["apiVersion"],
                "kind": obj["kind"],
                "name": metadata["name"],
                "namespace": metadata["namespace"],
                "uid": uid_of(obj),
            },
            "type": kind,
            "reason": reason,
            "message": message[:1024],
            "source": {"component": MANAGER},
            "reportingComponent": MANAGER,
            "reportingInstance": self._identity,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        try:
            await self._kube.create(event)
        except Retry as error:
            _log.warning("event %s on %s was not posted: %s", reason, metadata["name"], error)
            return
        self._last[key] = message
