"""Whether every ready API pod has applied a binding: asked of the pods, each once for all tenants.

A pod reports, on its internal port, the resourceVersion up to which it has applied its watch.
Versions of one resource can be compared as numbers (KEP-5504).
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterable
from typing import Final, TypeVar

import aiohttp
from pydantic import BaseModel, ValidationError

from ragtenancy_api.wiring import INTERNAL_PORT, WATCH_PATH, WatchProgress
from ragtenancy_operator.names import LABEL_COMPONENT, Component
from ragtenancy_operator.store import Key, Manifest, Store, holds, labels_of
from ragtenancy_operator.workqueue import WorkQueue

_log = logging.getLogger(__name__)
_FIRST_WAIT: Final = 0.03
_LONGEST_WAIT: Final = 1.0
_TIMEOUT: Final = aiohttp.ClientTimeout(total=2)
_Answer = TypeVar("_Answer", bound=BaseModel)


def pod_ready(pod: Manifest) -> bool:
    """Whether a pod is Ready and not on its way out."""
    return "deletionTimestamp" not in pod["metadata"] and holds(pod, "Ready")


class Served:
    """Follows how far the API pods of each deployment have come."""

    def __init__(self, store: Store, queue: WorkQueue[Key], session: aiohttp.ClientSession) -> None:
        self._store = store
        self._queue = queue
        self._session = session
        self._reached: dict[str, int] = {}  # by pod uid
        self._waiting: dict[tuple[str, str], dict[Key, int]] = defaultdict(dict)
        self._since: dict[Key, float] = {}
        self._polls: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}

    def pods(self, namespace: str, name: str) -> list[Manifest]:
        """The ready API pods of a deployment."""
        return [
            pod
            for pod in self._store.of_deployment(namespace, name, "Pod")
            if labels_of(pod).get(LABEL_COMPONENT) == Component.API and pod_ready(pod)
        ]

    async def lagging(self, namespace: str, name: str, version: int) -> list[str]:
        """Names of the ready API pods that are not known to have come to a version.

        A pod that was never asked is asked first, once for all who want to know.
        """
        pods = self.pods(namespace, name)
        await asyncio.gather(
            *(self._ask_once(pod) for pod in pods if pod["metadata"]["uid"] not in self._reached)
        )
        return [
            pod["metadata"]["name"]
            for pod in pods
            if self._reached.get(pod["metadata"]["uid"], -1) < version
        ]

    async def _ask_once(self, pod: Manifest) -> None:
        uid = pod["metadata"]["uid"]
        if uid not in self._asking:
            self._asking[uid] = asyncio.create_task(self._ask(pod), name=f"ask {uid}")
            self._asking[uid].add_done_callback(lambda _: self._asking.pop(uid))
        await asyncio.shield(self._asking[uid])

    def wake_when(self, namespace: str, name: str, version: int, key: Key) -> float:
        """Have the key reconciled when all ready API pods have come to a version.

        Returns:
            For how many seconds it has waited for this version or an earlier one.
        """
        deployment = (namespace, name)
        self._waiting[deployment][key] = version
        if deployment not in self._polls:
            self._polls[deployment] = asyncio.create_task(
                self._poll(deployment), name=f"served {namespace}/{name}"
            )
        now = asyncio.get_running_loop().time()
        return now - self._since.setdefault(key, now)

    async def _poll(self, deployment: tuple[str, str]) -> None:
        wait = _FIRST_WAIT
        try:
            while self._waiting[deployment]:
                pods = self.pods(*deployment)
                if not pods:
                    # a pod that becomes ready wakes every tenant of its deployment
                    break
                await asyncio.gather(*(self._ask(pod) for pod in pods))
                if self._wake(deployment):
                    wait = _FIRST_WAIT
                if self._waiting[deployment]:
                    await asyncio.sleep(wait)
                    wait = min(wait * 1.5, _LONGEST_WAIT)
        finally:
            del self._polls[deployment]
            for key in self._waiting.pop(deployment, {}):
                self._since.pop(key, None)

    def _wake(self, deployment: tuple[str, str]) -> bool:
        waiting = self._waiting[deployment]
        versions = [self._reached.get(p["metadata"]["uid"], -1) for p in self.pods(*deployment)]
        reached = min(versions, default=-1)
        there = [key for key, version in waiting.items() if version <= reached]
        for key in there:
            del waiting[key]
            self._since.pop(key, None)
            self._queue.wake(key, cause="the API pods have loaded its binding")
        return bool(there)

    async def _ask(self, pod: Manifest) -> None:
        # a pod that does not answer counts as lagging; the next round asks again
        progress = await self.ask(pod, WATCH_PATH, WatchProgress)
        if progress is not None and progress.ragbindings.isdecimal():
            self._reached[pod["metadata"]["uid"]] = int(progress.ragbindings)

    async def ask(self, pod: Manifest, path: str, answer: type[_Answer]) -> _Answer | None:
        """What a pod of ours says on its internal port; None when it does not."""
        address = pod["status"].get("podIP")
        host = f"[{address}]" if ":" in str(address) else address
        url = f"http://{host}:{INTERNAL_PORT}{path}"
        try:
            async with self._session.get(url, timeout=_TIMEOUT) as response:
                response.raise_for_status()
                return answer.model_validate_json(await response.read())
        except (aiohttp.ClientError, TimeoutError, ValidationError) as error:
            _log.debug("pod %s did not report: %r", pod["metadata"]["name"], error)
            return None

    def reached(self, pod_uid: str) -> int | None:
        """The resourceVersion that a pod had come to when it was last asked."""
        return self._reached.get(pod_uid)

    def forget(self, pod_uids: Iterable[str]) -> None:
        """Drop what is known of pods that are gone."""
        for uid in pod_uids:
            self._reached.pop(uid, None)
