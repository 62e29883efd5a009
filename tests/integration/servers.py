"""Real servers on loopback for integration tests: kube-apiserver with etcd, Redis, Weaviate.

Each is one process on free ports, with its data and log in a folder of the test run, and is
stopped by its process id. Their binaries are the local node's (`tests/e2e/localnode`).
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from ssl import create_default_context
from typing import Any, Final

from tests.e2e.localnode.artefacts import ensure
from tests.e2e.localnode.gotools import TOOLS, binary
from tests.e2e.localnode.pki import Authority
from tests.e2e.localnode.rootfs import ROOTFS, foreign_command

ARTEFACTS = (
    TOOLS["kube-apiserver"], TOOLS["etcd"], TOOLS["helm"], TOOLS["weaviate-server"], ROOTFS,
)  # fmt: skip
"""What must be built: `python -m tests.e2e.localnode build --only integration`."""

_START_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 10.0
_LOOPBACK = "127.0.0.1"


def free_ports(count: int) -> list[int]:
    """Ports that are free now, all different."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((_LOOPBACK, 0))
        return [each.getsockname()[1] for each in sockets]


class Process:
    """A server's process; its output goes to a log file."""

    def __init__(
        self, command: Sequence[str | Path], log: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self.log = log
        self._name = Path(command[0]).name
        self._command = [str(word) for word in command]
        self._env = {**os.environ, **(env or {})}
        self._process = self._start()

    def _start(self) -> "subprocess.Popen[bytes]":
        with self.log.open("ab") as output:
            return subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._env,
                # Ctrl-C in the terminal is pytest's; the fixtures end the servers.
                start_new_session=True,
            )

    def restart(self) -> None:
        """Start it again, after it ended: on the same ports, with the data it left."""
        self._process = self._start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_until(self, ready: Callable[[], bool]) -> None:
        """Poll until it is ready.

        Raises:
            RuntimeError: It ended, or was not ready in time; the message has the log's end.
        """
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                tail = self.log.read_text(errors="replace")[-3000:]
                raise RuntimeError(f"{self._name} did not become ready:\n{tail}")
            time.sleep(0.05)

    def terminate(self) -> None:
        """Ask it to end, as Kubernetes would."""
        self._process.send_signal(signal.SIGTERM)

    def wait(self, timeout: float) -> int:
        """Its exit status, once it ended."""
        return self._process.wait(timeout)

    def stop(self) -> None:
        """End it, by force when it takes too long."""
        self.terminate()
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self._process.kill()
        self._process.wait()


def _answers(url: str, ca: Path | None = None) -> bool:
    context = create_default_context(cafile=str(ca)) if ca else None
    try:
        with urllib.request.urlopen(url, timeout=1, context=context) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


_AUDIT_POLICY: Final = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    # a watch is complete only when it ends
    "omitStages": ["RequestReceived"],
    "omitManagedFields": True,
    "rules": [
        {"level": "None", "users": ["system:apiserver"]},
        {"level": "None", "nonResourceURLs": ["/readyz", "/metrics"]},
        {"level": "Metadata"},
    ],
}


@dataclass(frozen=True)
class KubeServer:
    """An API server without controllers or nodes: objects are stored, nothing acts on them.

    Namespaces stay Terminating, owners' children are not collected, and pods never run.

    Attributes:
        url: Of the API server.
        kubeconfig: A file with a cluster administrator's credentials.
        audit_log: Every request, with its user and what was decided, as one JSON object a line.
    """

    url: str
    kubeconfig: Path
    audit_log: Path
    _processes: tuple[Process, ...]

    @classmethod
    def start(cls, home: Path) -> "KubeServer":
        """Start etcd and the API server; a folder of their own is `home`."""
        ensure([TOOLS["kube-apiserver"], TOOLS["etcd"]])
        port, client, peer = free_ports(3)
        pki = Authority.create(home / "pki")
        pki.issue("server", "kube-apiserver", hosts=(f"IP:{_LOOPBACK}", "DNS:localhost"))
        pki.issue("admin", "admin", "system:masters")
        policy, audit_log = home / "audit-policy.json", home / "audit.log"
        policy.write_text(json.dumps(_AUDIT_POLICY))
        etcd_url, url = f"http://{_LOOPBACK}:{client}", f"https://{_LOOPBACK}:{port}"
        etcd = Process(
            [
                binary("etcd"),
                f"--data-dir={home}/etcd",
                f"--listen-client-urls={etcd_url}",
                f"--advertise-client-urls={etcd_url}",
                f"--listen-peer-urls=http://{_LOOPBACK}:{peer}",
                "--log-level=warn",
                "--unsafe-no-fsync",
            ],
            home / "etcd.log",
        )
        server = Process(
            [
                binary("kube-apiserver"),
                f"--etcd-servers={etcd_url}",
                f"--bind-address={_LOOPBACK}",
                f"--secure-port={port}",
                "--endpoint-reconciler-type=none",
                "--service-cluster-ip-range=10.96.0.0/16",
                "--authorization-mode=RBAC",
                # No controller makes the default ServiceAccount that pods would need.
                "--disable-admission-plugins=ServiceAccount",
                # Some distributions have it on: who sets blockOwnerDeletion must be allowed to.
                "--enable-admission-plugins=OwnerReferencesPermissionEnforcement",
                f"--audit-policy-file={policy}",
                f"--audit-log-path={audit_log}",
                "--audit-log-maxsize=2000",
                f"--client-ca-file={pki.certificate}",
                f"--tls-cert-file={pki.home}/server.crt",
                f"--tls-private-key-file={pki.home}/server.key",
                "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
                f"--service-account-key-file={pki.home}/service-accounts.pub",
                f"--service-account-signing-key-file={pki.home}/service-accounts.key",
            ],
            home / "kube-apiserver.log",
        )
        kubeconfig = home / "kubeconfig"
        pki.write_kubeconfig(kubeconfig, "admin", url, "ragtenancy-integration")
        running = cls(url, kubeconfig, audit_log, (server, etcd))
        try:
            server.wait_until(lambda: _answers(f"{url}/readyz", pki.certificate))
        except BaseException:
            running.stop()
            raise
        return running

    def act_as(self, namespace: str, account: str, kubeconfig: Path) -> None:
        """Write a kubeconfig of a ServiceAccount, with a token as the kubelet would mount it."""
        words = ["create", "token", account, f"--namespace={namespace}", "--duration=24h"]
        command = ["kubectl", f"--kubeconfig={self.kubeconfig}", *words]
        token = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
        config = json.loads(self.kubeconfig.read_text())
        config["users"][0]["user"] = {"token": token}
        kubeconfig.touch(mode=0o600)
        kubeconfig.write_text(json.dumps(config))

    def audited(self, user: str) -> Iterator[dict[str, Any]]:
        """The events of the audit log that are a user's, oldest first."""
        with self.audit_log.open() as lines:
            for line in lines:
                # the last one may be half written
                if line.endswith("\n") and (event := json.loads(line))["user"]["username"] == user:
                    yield event

    def stop(self) -> None:
        """End both processes."""
        # Nothing that they would write on a clean exit is needed.
        for process in self._processes:
            process.kill()


@dataclass(frozen=True)
class RedisServer:
    """A Redis 8 with vector sets and a password.

    Attributes:
        url: With the password, for `redis.Redis.from_url`.
    """

    url: str
    host: str
    port: int
    password: str
    process: Process

    @classmethod
    def start(cls, home: Path, *options: str) -> "RedisServer":
        """Start it with these words after `redis-server`; its data goes to `home`."""
        ensure([ROOTFS])
        [port] = free_ports(1)
        password = "integration"
        home.mkdir(parents=True, exist_ok=True)
        command = foreign_command("redis-server")
        command += ["--bind", _LOOPBACK, "--port", str(port), "--dir", str(home)]
        process = Process([*command, "--requirepass", password, *options], home / "redis.log")
        process.wait_until(lambda: _pongs(port))
        url = f"redis://:{password}@{_LOOPBACK}:{port}/0"
        return cls(url, _LOOPBACK, port, password, process)

    def stop(self) -> None:
        """End it as Kubernetes would."""
        self.process.stop()


STATE_OPTIONS = ("--appendonly", "yes", "--maxmemory-policy", "noeviction")
"""As the Redis that keeps leases and the ledger."""
CACHE_OPTIONS = (
    "--save", "", "--appendonly", "no", "--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru",
)  # fmt: skip
"""As the Redis that keeps answers."""


def _pongs(port: int) -> bool:
    try:
        with socket.create_connection((_LOOPBACK, port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            # Before AUTH it answers, but only with an error.
            return connection.recv(16).startswith((b"-NOAUTH", b"+PONG"))
    except OSError:
        return False


@dataclass(frozen=True)
class WeaviateServer:
    """A single Weaviate node that wants an API key."""

    http_port: int
    grpc_port: int
    metrics_port: int
    api_key: str
    process: Process

    @property
    def url(self) -> str:
        return f"http://{_LOOPBACK}:{self.http_port}"

    @classmethod
    def start(
        cls, home: Path, more: Mapping[str, str] | None = None, ready: bool = True
    ) -> "WeaviateServer":
        """Start it, with more variables; its data goes to `home`."""
        ensure([TOOLS["weaviate-server"]])
        http, grpc, metrics, gossip, data, raft, rpc = free_ports(7)
        home.mkdir(parents=True, exist_ok=True)
        api_key = "integration-admin"
        env = {
            "AUTHENTICATION_ANONYMOUS_ACCESS_ENABLED": "false",
            "AUTHENTICATION_APIKEY_ALLOWED_KEYS": api_key,
            "AUTHENTICATION_APIKEY_ENABLED": "true",
            "AUTHENTICATION_APIKEY_USERS": "ragtenancy",
            "AUTHORIZATION_ADMINLIST_ENABLED": "true",
            "AUTHORIZATION_ADMINLIST_USERS": "ragtenancy",
            "ASYNC_INDEXING": "true",
            "CLUSTER_ADVERTISE_ADDR": _LOOPBACK,
            "CLUSTER_BIND_ADDR": _LOOPBACK,
            "CLUSTER_DATA_BIND_PORT": str(data),
            "CLUSTER_GOSSIP_BIND_PORT": str(gossip),
            "CLUSTER_HOSTNAME": "node1",
            "DEFAULT_VECTORIZER_MODULE": "none",
            "DISABLE_TELEMETRY": "true",
            "GO_PROFILING_DISABLE": "true",
            "GRPC_PORT": str(grpc),
            "LIMIT_RESOURCES": "true",
            "PERSISTENCE_DATA_PATH": str(home / "data"),
            "PROMETHEUS_MONITORING_ENABLED": "true",
            "PROMETHEUS_MONITORING_GROUP": "true",
            "PROMETHEUS_MONITORING_PORT": str(metrics),
            "QUERY_DEFAULTS_LIMIT": "20",
            "RAFT_BOOTSTRAP_EXPECT": "1",
            "RAFT_INTERNAL_RPC_PORT": str(rpc),
            "RAFT_PORT": str(raft),
        }
        words = ["--scheme", "http", "--host", _LOOPBACK, "--port", str(http)]
        process = Process(
            [binary("weaviate-server"), *words], home / "weaviate.log", {**env, **(more or {})}
        )
        server = cls(http, grpc, metrics, api_key, process)
        if ready:
            process.wait_until(server.ready)
        return server

    def ready(self) -> bool:
        """Whether it has a leader and answers."""
        return _answers(f"{self.url}/v1/.well-known/ready")

    def stop(self) -> None:
        """End it at once; a clean exit takes it up to a minute."""
        self.process.kill()


def _port_pairs(count: int) -> list[int]:
    """Ports that are free now, and the one above each as well."""
    found: list[int] = []
    while len(found) < count:
        [port] = free_ports(1)
        with contextlib.suppress(OSError), socket.socket() as above:
            above.bind((_LOOPBACK, port + 1))
            if not {port - 1, port, port + 1} & {*found, *(each + 1 for each in found)}:
                found.append(port)
    return found


@dataclass
class WeaviateCluster:
    """Weaviate nodes that know each other, as the operator's StatefulSet has them."""

    home: Path
    members: tuple[WeaviateServer, ...] = ()

    def __post_init__(self) -> None:
        # Where nodes share a host, each one's data and RPC ports are those above gossip and raft.
        self._gossip, self._raft = _port_pairs(3), _port_pairs(3)

    def _variables(self, index: int, size: int) -> dict[str, str]:
        gossip, raft = self._gossip[index], self._raft[index]
        return {
            "CLUSTER_DATA_BIND_PORT": str(gossip + 1),
            "CLUSTER_GOSSIP_BIND_PORT": str(gossip),
            "CLUSTER_HOSTNAME": f"node-{index}",
            "CLUSTER_IN_LOCALHOST": "true",
            "CLUSTER_JOIN": ",".join(f"{_LOOPBACK}:{port}" for port in self._gossip[:size]),
            "RAFT_BOOTSTRAP_EXPECT": str(size),
            "RAFT_INTERNAL_RPC_PORT": str(raft + 1),
            # All of them at any size: it is also how nodes on one host know each other's ports.
            "RAFT_JOIN": ",".join(f"node-{n}:{port}" for n, port in enumerate(self._raft)),
            "RAFT_PORT": str(raft),
        }

    def grow(self, size: int) -> None:
        """Start nodes until there are so many; those that run go on."""
        new = [
            WeaviateServer.start(
                self.home / f"node-{index}", self._variables(index, size), ready=False
            )
            for index in range(len(self.members), size)
        ]
        self.members += tuple(new)
        for member in new:
            member.process.wait_until(member.ready)

    def restart(self, index: int) -> None:
        """Start a node anew, as one of as many as there are now, with the data it has."""
        old = self.members[index]
        old.process.kill()
        size = len(self.members)
        server = WeaviateServer.start(self.home / f"node-{index}", self._variables(index, size))
        self.members = (*self.members[:index], server, *self.members[index + 1 :])

    def stop(self) -> None:
        """End all of them."""
        for member in self.members:
            member.stop()
