"""What the operator's integration tests run against: real servers, and no pods.

The kube-apiserver has no controllers and no kubelet. So the one workload that matters, the API, is
a real runtime process on loopback, and a Pod object is written that points to it.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.request import urlopen

import yaml

from ragtenancy_api import wiring
from ragtenancy_operator.kube import Kube
from ragtenancy_operator.store import Manifest
from tests.e2e.localnode.artefacts import ensure
from tests.e2e.localnode.gotools import TOOLS, binary
from tests.fakes.openai import DIMENSIONS, FakeOpenAI
from tests.integration.runtime.world import environment
from tests.integration.servers import KubeServer, Process, RedisServer, WeaviateServer, free_ports

ROOT = Path(__file__).resolve().parents[3]
HOME, DEPLOYMENT = "rag", "main"
SYSTEM, RELEASE = "ragtenancy-system", "ragtenancy"
ACCOUNT = f"{RELEASE}-operator"
"""The ServiceAccount that the operator runs as, with the chart's rules."""
USER = f"system:serviceaccount:{SYSTEM}:{ACCOUNT}"
RBAC = ("--show-only=templates/rbac.yaml", "--show-only=templates/serviceaccount.yaml")
"""Words for :func:`rendered`: that account and its roles."""

T = TypeVar("T")


async def until(check: Callable[[], Awaitable[T | None]], seconds: float = 15.0) -> T:
    """Ask again and again until the answer is true.

    Raises:
        AssertionError: It was not, in time.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while True:
        answer = await check()
        if answer:
            return answer
        assert loop.time() < deadline, f"still {answer!r} after {seconds} s: {check.__doc__}"
        await asyncio.sleep(0.05)


@dataclass
class OperatorProcess:
    """`python -m ragtenancy_operator`, which tests may kill."""

    kubeconfig: Path
    home: Path
    name: str = "operator"
    lease_seconds: float = 5
    """Shorter than the chart's, and long enough for a machine that is busy."""
    port: int = field(default_factory=lambda: free_ports(1)[0])
    process: Process | None = None
    starts: int = 0

    @property
    def identity(self) -> str:
        """Its name in the Lease."""
        return f"{self.name}-{self.starts}"

    def start(self) -> None:
        """Start it, or another after it was killed; it leads."""
        self.launch().wait_until(self.leading)

    def follow(self) -> None:
        """Start it beside one that leads."""
        self.launch().wait_until(lambda: bool(self.metrics()))
        assert not self.leading()

    def launch(self) -> Process:
        """Start it, and wait for nothing."""
        self.starts += 1
        self.process = Process(
            [sys.executable, "-m", "ragtenancy_operator"],
            self.home / f"{self.identity}.log",
            {
                **os.environ,
                "KUBECONFIG": str(self.kubeconfig),
                "RAGTENANCY_POD_NAMESPACE": SYSTEM,
                "RAGTENANCY_POD_NAME": self.identity,
                "RAGTENANCY_PORT": str(self.port),
                "RAGTENANCY_KEEPER_SECONDS": "0.5",
                "RAGTENANCY_LEASE_SECONDS": str(self.lease_seconds),
                "RAGTENANCY_LOG_LEVEL": "DEBUG",
            },
        )
        return self.process

    def metrics(self) -> str:
        """What it says on /metrics; empty while it does not answer."""
        try:
            return self.read("/metrics")
        except OSError:
            return ""

    def read(self, path: str) -> str:
        """What it answers on its internal port."""
        with urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
            return str(answer.read().decode())

    def leading(self) -> bool:
        """Whether it leads."""
        return 'leader_election_master_status{name="ragtenancy-operator"} 1.0' in self.metrics()

    def kill(self) -> None:
        """End it at once, wherever it is."""
        assert self.process is not None
        self.process.kill()

    def stop(self) -> None:
        """End it in order."""
        if self.process is not None:
            self.process.stop()


@dataclass
class World:
    """The servers and the operator."""

    kube: KubeServer
    weaviate: WeaviateServer
    state: RedisServer
    cache: RedisServer
    upstream: FakeOpenAI
    operator: OperatorProcess
    home: Path
    pod: Process | None = None
    api: str = ""

    def spec(self, **changes: Any) -> dict[str, Any]:
        """A RAGDeployment's spec in which everything but the API is external."""
        grpc = f"grpc://127.0.0.1:{self.weaviate.grpc_port}"
        weaviate = {
            "httpUrl": self.weaviate.url,
            "grpcUrl": grpc,
            "apiKeySecretRef": {"name": "external", "key": "weaviate"},
        }
        model = {"external": {"url": self.upstream.url}}

        def redis(key: str) -> dict[str, Any]:
            return {"redis": {"external": {"urlSecretRef": {"name": "external", "key": key}}}}

        spec: dict[str, Any] = {
            "tenants": {"allowedNamespaces": {"from": "All"}},
            "vectorStore": {"weaviate": {"external": weaviate}},
            "embedding": {"model": "fake/embedding", "dimensions": DIMENSIONS, **model},
            "generation": {"model": "fake/chat", "maxModelLen": 4096, **model},
            "state": redis("state"),
            "cache": redis("cache"),
            "api": {"replicas": 1},
        }
        return spec | changes

    def external_secret(self, namespace: str) -> Manifest:
        """The Secret that the spec refers to."""
        values = {
            "weaviate": self.weaviate.api_key,
            "state": self.state.url,
            "cache": self.cache.url,
        }
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "external", "namespace": namespace},
            "stringData": values,
        }

    async def run_api(self, kube: Kube) -> None:
        """Start the runtime as the operator's API Deployment would, and say that it is ready."""
        self.api = f"http://127.0.0.1:{wiring.API_PORT}"
        variables = environment(self.home, self.state, self.cache, self.weaviate, self.upstream)
        workload = await until(lambda: kube.find("Deployment", HOME, f"{DEPLOYMENT}-api"))
        kubeconfig = self.home / "api.kubeconfig"
        self.kube.act_as(HOME, f"{DEPLOYMENT}-api", kubeconfig)
        variables |= {"KUBECONFIG": str(kubeconfig)}
        command = [sys.executable, "-m", "ragtenancy_runtime", "--host", "127.0.0.1"]
        self.pod = Process(command, self.home / "api.log", {**os.environ, **variables})
        labels = workload["spec"]["template"]["metadata"]["labels"]
        self.pod.wait_until(self.api_ready)
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"{DEPLOYMENT}-api-0", "namespace": HOME, "labels": labels},
            "spec": {"containers": [{"name": "api", "image": "none"}]},
        }
        await kube.create(pod)
        ready = {"type": "Ready", "status": "True"}
        status = {"podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}], "conditions": [ready]}
        await kube.merge("Pod", HOME, f"{DEPLOYMENT}-api-0", {"status": status}, "status")
        await self.mark_available(kube, HOME, f"{DEPLOYMENT}-api")

    async def mark_available(self, kube: Kube, namespace: str, name: str) -> None:
        """Say of a Deployment what its controller would when its pod is ready."""
        workload = await kube.get("Deployment", namespace, name)
        available = {"type": "Available", "status": "True", "reason": "Test", "message": ""}
        status = {
            "observedGeneration": workload["metadata"]["generation"],
            "replicas": 1,
            "updatedReplicas": 1,
            "readyReplicas": 1,
            "availableReplicas": 1,
            "conditions": [available],
        }
        await kube.merge("Deployment", namespace, name, {"status": status}, "status")

    def api_ready(self) -> bool:
        """Whether the runtime says that it is ready."""
        try:
            with urlopen(f"{self.api}/readyz", timeout=1) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def stop(self) -> None:
        """End what was started."""
        self.operator.stop()
        if self.pod is not None:
            self.pod.stop()


def rendered(*words: str) -> list[Manifest]:
    """The chart's objects, as Helm renders them with these words after `helm template`."""
    ensure([TOOLS["helm"]])
    command = [str(binary("helm")), "template", RELEASE, str(ROOT / "charts/ragtenancy")]
    command += [f"--namespace={SYSTEM}", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]


def deployment(namespace: str, spec: dict[str, Any], name: str = DEPLOYMENT) -> Manifest:
    """A RAGDeployment."""
    return {
        "apiVersion": "ragtenancy.io/v1alpha1",
        "kind": "RAGDeployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


def tenant(namespace: str, name: str, home: str = HOME, **spec: Any) -> Manifest:
    """A RAGTenant of the deployment main."""
    return {
        "apiVersion": "ragtenancy.io/v1alpha1",
        "kind": "RAGTenant",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"deploymentRef": {"name": DEPLOYMENT, "namespace": home}, **spec},
    }


def namespace_manifest(name: str, **labels: str) -> Manifest:
    """A Namespace."""
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": labels},
    }


def condition(obj: Manifest | None, kind: str) -> dict[str, Any]:
    """One condition of an object; empty while it has none."""
    held = (obj or {}).get("status", {}).get("conditions") or ()
    return next((c for c in held if c["type"] == kind), {})
