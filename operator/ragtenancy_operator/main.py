"""What is watched. The reconciles are in ``deployment/``, ``tenant/`` and ``binding/``.

kopf watches, retries broken watches, and runs startup and cleanup. It writes nothing: there are no
finalizers, annotations, daemons or timers of its.
"""

import asyncio
import contextlib
import logging
import os
import signal
import threading
from typing import Any, Final

import aiohttp
import kopf

from ragtenancy_api.meta import API_VERSION
from ragtenancy_operator.apply import Applier
from ragtenancy_operator.binding.reconcile import BindingReconciler
from ragtenancy_operator.connections import Connections
from ragtenancy_operator.debug import Debug
from ragtenancy_operator.deployment.reconcile import DeploymentReconciler
from ragtenancy_operator.errors import Retry
from ragtenancy_operator.events import Events
from ragtenancy_operator.internal import serve
from ragtenancy_operator.keeper.keeper import Keeper
from ragtenancy_operator.kube import PLURALS, Kube
from ragtenancy_operator.lease import Lease, Lost
from ragtenancy_operator.metrics import Metrics
from ragtenancy_operator.names import LABEL_MANAGED_BY, MANAGER
from ragtenancy_operator.optional import OptionalKinds
from ragtenancy_operator.routes import wakes
from ragtenancy_operator.served import Served
from ragtenancy_operator.services import Services
from ragtenancy_operator.settings import Settings
from ragtenancy_operator.store import Key, Store, key_of
from ragtenancy_operator.tenant.reconcile import TenantReconciler
from ragtenancy_operator.worker import EVENT, LISTED, RESYNC, Workers
from ragtenancy_operator.workqueue import WorkQueue

_log = logging.getLogger(__name__)

OURS: Final = ("RAGDeployment", "RAGTenant", "RAGBinding")
CHILDREN: Final = (
    "Deployment",
    "HorizontalPodAutoscaler",
    "Ingress",
    "Job",
    "NetworkPolicy",
    "PersistentVolumeClaim",
    "Pod",
    "PodDisruptionBudget",
    "Role",
    "RoleBinding",
    "Secret",
    "Service",
    "ServiceAccount",
    "StatefulSet",
)
"""Watched only where they carry our label: the selection is made by the API server."""
CLUSTER: Final = ("Namespace", "StorageClass")
"""Watched whole: they belong to no namespace, and have no label of ours."""
_LIST_CHUNK: Final = 500
_CRD_SECONDS: Final = 1.0
_STOP_SECONDS: Final = 2.0
_LOST_SECONDS: Final = 3.0
"""How long a process may live that lost its lease: the next leader may write already."""


class Operator:
    """One operator process: watches fill the store, workers empty the queue."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.store = Store()
        self.metrics = Metrics(OURS)
        self.queue: WorkQueue[Key] = WorkQueue(meter=self.metrics.queue)
        self.stopping = asyncio.Event()
        self.leads = False

    def seen(self, obj: dict[str, Any]) -> None:
        """Take an object into the store, without a reconcile."""
        self.store.put(obj)

    def event(self, kind: str | None, obj: dict[str, Any]) -> None:
        """Take an event in, and wake who it concerns."""
        if kind == "DELETED":
            self.store.remove(obj)
        else:
            self.store.put(obj)
        # what was there when the watch began has no type
        cause = f"{EVENT} {kind} {key_of(obj)}" if kind and self.leads else LISTED
        for key in wakes(self.store, obj):
            self.queue.wake(key, cause=cause)

    def take_signals(self) -> None:
        """Stop in order on SIGTERM and SIGINT."""
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, self.stopping.set)

    async def run(self) -> None:
        """Watch, lead, and work until told to stop or the lease is lost."""
        async with contextlib.AsyncExitStack() as stack:
            kube = await stack.enter_async_context(Kube(count=self.metrics.requested))
            session = await stack.enter_async_context(aiohttp.ClientSession())
            optional = OptionalKinds(
                kube, self.store, self.settings.watch_namespaces, self.event, self._came_or_went
            )
            services = Services(
                self.settings,
                kube,
                self.store,
                self.queue,
                Applier(kube, self.store),
                Events(kube, self.settings.identity),
                Connections(kube, session),
                Served(self.store, self.queue, session),
                optional,
            )
            workers = Workers(
                self.queue,
                self.store,
                {
                    "RAGDeployment": DeploymentReconciler(services).reconcile,
                    "RAGTenant": TenantReconciler(services).reconcile,
                    "RAGBinding": BindingReconciler(services).reconcile,
                },
                self.metrics,
            )
            runner = await serve(
                self.settings.port,
                self.metrics,
                Debug(services, workers.last, lambda: self.leads),
                lambda: not self.stopping.is_set(),
            )
            stack.push_async_callback(runner.cleanup)
            lease = Lease(
                kube, self.settings.namespace, self.settings.identity, self.settings.lease_seconds
            )
            keeper = Keeper(services, self.metrics.keeper)
            watching = asyncio.create_task(self._watch(kube, optional), name="kopf")
            leading = asyncio.create_task(self._lead(workers, keeper, lease), name="lead")
            leading.add_done_callback(lambda _: self.stopping.set())
            try:
                await self.stopping.wait()
            finally:
                # first the writes and the lease, so that another process can take over
                leading.cancel()
                await asyncio.wait([leading])
                # kopf ends by its flag; a cancellation of its own would wait for its watches
                await asyncio.wait([watching], timeout=_STOP_SECONDS)
                watching.cancel()
            ends = await asyncio.gather(leading, watching, return_exceptions=True)
            if failures := [end for end in ends if isinstance(end, Exception)]:
                raise ExceptionGroup("the operator ends", failures)

    async def _lead(self, workers: Workers, keeper: Keeper, lease: Lease) -> None:
        await lease.acquire()
        _log.info("leading as %s", self.settings.identity)
        self._leads(True)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(workers.run(self.settings.workers), name="workers")
                group.create_task(keeper.run(), name="keeper")
                group.create_task(self._keep(lease), name="lease")
                group.create_task(self._resync(), name="resync")
        finally:
            self._leads(False)
            if self.stopping.is_set():
                await lease.release()

    def _leads(self, leads: bool) -> None:
        self.leads = leads
        self.metrics.leads(leads)

    async def _keep(self, lease: Lease) -> None:
        try:
            await lease.keep()
        except Lost as lost:
            _log.error("the lease is lost: %s", lost)
            # a thread's timer: it ends the process also when the event loop is held up
            end = threading.Timer(_LOST_SECONDS, os._exit, (1,))
            end.daemon = True
            end.start()
            raise

    async def _resync(self) -> None:
        """Look at every object again from time to time, in case an event was missed."""
        while True:
            await asyncio.sleep(self.settings.resync_seconds)
            for kind in OURS:
                for obj in list(self.store.of_kind(kind)):
                    for key in wakes(self.store, obj):
                        self.queue.wake(key, cause=RESYNC)

    async def _take_signals_after(self, started: asyncio.Event) -> None:
        await started.wait()
        self.take_signals()
        _log.info("watching")

    async def _kinds(self, kube: Kube) -> None:
        """Wait until the API server serves our kinds: kopf looks for them once, at its start."""
        wanted = {PLURALS[kind][1] for kind in OURS}
        said = False
        while True:
            try:
                missing = wanted - await kube.served(API_VERSION)
            except Retry as error:
                _log.warning("%s", error)
            else:
                if not missing:
                    return
                if not said:
                    _log.warning("waiting for the CRDs of %s", ", ".join(sorted(missing)))
                said = True
            await asyncio.sleep(_CRD_SECONDS)

    def _came_or_went(self, kind: str) -> None:
        for obj in list(self.store.of_kind("RAGDeployment")):
            self.queue.wake(key_of(obj), cause=f"{kind} came or went")

    async def _watch(self, kube: Kube, optional: OptionalKinds) -> None:
        await self._kinds(kube)
        await optional.look()
        looking = asyncio.create_task(optional.run(), name="optional kinds")
        namespaces = self.settings.watch_namespaces
        started = asyncio.Event()
        # kopf takes the signals for itself when it starts, and then only ends its watches
        signals = asyncio.create_task(self._take_signals_after(started), name="signals")
        try:
            await kopf.operator(
                registry=self._registry(),
                settings=_kopf_settings(),
                # kopf would make one of the user's name, which a pod need not have
                identity=self.settings.identity,  # type: ignore[arg-type]
                standalone=True,
                stop_flag=self.stopping,
                ready_flag=started,
                clusterwide=not namespaces,
                namespaces=list(namespaces),
            )
        finally:
            signals.cancel()
            looking.cancel()
            # without its watches there is nothing to do here
            self.stopping.set()

    def _registry(self) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry)(_login)
        for kind in (*OURS, *CHILDREN, *CLUSTER):
            version, plural = PLURALS[kind]
            group, _, number = version.rpartition("/")

            # kopf calls no event handler before every index is filled: so the store is complete
            # before the first reconcile, which could otherwise take a missing object for deleted
            async def index(body: kopf.Body, kind: str = kind, **_: Any) -> None:
                self.seen(_plain(body, kind))

            async def event(
                event: kopf.RawEvent, body: kopf.Body, kind: str = kind, **_: Any
            ) -> None:
                self.event(event["type"], _plain(body, kind))

            kopf.index(group, number, plural, id=f"store-{plural}", registry=registry)(index)
            kopf.on.event(group, number, plural, id=f"event-{plural}", registry=registry)(event)
        return registry


def _login(**arguments: Any) -> kopf.ConnectionInfo | None:
    """Credentials for the watches: the pod's, or a person's kubeconfig."""
    return kopf.login_with_service_account(**arguments) or kopf.login_with_kubeconfig(**arguments)


def _plain(body: kopf.Body, kind: str) -> dict[str, Any]:
    version = PLURALS[kind][0]
    # items of a list come without their kind
    return {**dict(body), "kind": kind, "apiVersion": version}


def _kopf_settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True  # our kinds are known: no watch of all CRDs and namespaces
    settings.watching.chunk_size = _LIST_CHUNK
    for kind in CHILDREN:
        version, plural = PLURALS[kind]
        group, _, number = version.rpartition("/")
        settings.watching.label_selectors[group, number, plural] = f"{LABEL_MANAGED_BY}={MANAGER}"
    return settings
