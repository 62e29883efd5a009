"""The demo's calls of kubectl and helm."""

import base64
import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.e2e.cluster import Cluster
from tests.e2e.kind import KindCluster
from tests.e2e.localnode.layout import REPO
from tests.e2e.localnode.shell import run
from tests.e2e.localnode.sources import tag

RELEASE: Final = "ragtenancy"
NAMESPACE: Final = "ragtenancy-system"
_CHART: Final = REPO / "charts" / "ragtenancy"
_QUICKSTART: Final = REPO / "examples" / "quickstart"
_POLL_SECONDS: Final = 1.0


@dataclass(frozen=True)
class Tools:
    """kubectl and helm, for one cluster."""

    kubeconfig: Path
    bin: Path
    flavour: str
    """``kind`` or ``localnode``: which values file and which overlay fit."""

    @classmethod
    def of(cls, cluster: Cluster) -> "Tools":
        """The tools of a running cluster."""
        flavour = "kind" if isinstance(cluster, KindCluster) else "localnode"
        return cls(cluster.kubeconfig(), cluster.bin(), flavour)

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which ``kubectl`` and ``helm`` reach this cluster."""
        path = f"{self.bin}{os.pathsep}{os.environ.get('PATH', '')}"
        return {"KUBECONFIG": str(self.kubeconfig), "PATH": path}

    def kubectl(self, *words: str, stdin: str | None = None) -> str:
        """Run kubectl; what it printed."""
        return run(self.bin / "kubectl", *words, env=self.environment, stdin=stdin)

    def get(self, kind: str, namespace: str, name: str) -> dict[str, Any]:
        """One object."""
        found: dict[str, Any] = json.loads(
            self.kubectl("get", kind, name, "--namespace", namespace, "--output", "json")
        )
        return found

    def install(self) -> None:
        """Install the chart, or upgrade it; returns when the operator is ready."""
        run(
            self.bin / "helm", "upgrade", "--install", RELEASE, _CHART,
            "--namespace", NAMESPACE, "--create-namespace",
            "--values", _CHART / f"values-{self.flavour}.yaml",
            "--set", f"image.tag={tag()}",
            "--set", f"images.runtime=ghcr.io/ragtenancy/runtime:{tag()}",
            "--wait", "--timeout", "5m",
            env=self.environment,
        )  # fmt: skip

    def apply_quickstart(self) -> None:
        """Apply the quickstart for this kind of cluster."""
        self.kubectl("apply", "--kustomize", str(_QUICKSTART / self.flavour))

    def wait_ready(
        self, kind: str, namespace: str, name: str, timeout_s: float, tell: Callable[[str], None]
    ) -> None:
        """Wait for the condition Ready, telling what is missing whenever that changes.

        Raises:
            TimeoutError: It did not become Ready; the message says what was missing.
        """
        words = [
            str(self.bin / "kubectl"), "wait", "--for=condition=Ready", f"{kind}/{name}",
            f"--namespace={namespace}", f"--timeout={timeout_s:.0f}s",
        ]  # fmt: skip
        said = ""
        with subprocess.Popen(
            words,
            env={**os.environ, **self.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as waiting:
            while waiting.poll() is None:
                missing = _missing(self.get(kind, namespace, name))
                if missing and missing != said:
                    tell(f"{kind}/{name}: {missing}")
                    said = missing
                time.sleep(_POLL_SECONDS)
            if waiting.returncode != 0:
                left = _missing(self.get(kind, namespace, name))
                raise TimeoutError(f"{kind} {namespace}/{name} is not Ready: {left}")

    def wait_current(self, timeout_s: float) -> None:
        """Wait until the API pods are of the sources that were installed, and no older one is left.

        Raises:
            TimeoutError: The operator did not roll them in time.
        """
        words = ("get", "deployment/main-api", "--namespace=rag")
        image = "--output=jsonpath={.spec.template.spec.containers[0].image}"
        deadline = time.monotonic() + timeout_s
        while not self.kubectl(*words, image).endswith(f":{tag()}"):
            if time.monotonic() > deadline:
                raise TimeoutError("the operator did not give the API its new image")
            time.sleep(_POLL_SECONDS)
        self.kubectl(
            "rollout", "status", "deployment/main-api", "--namespace=rag",
            f"--timeout={timeout_s:.0f}s",
        )  # fmt: skip

    def secret(self, namespace: str, name: str) -> dict[str, str]:
        """A Secret's entries."""
        data = self.get("secret", namespace, name)["data"]
        return {entry: base64.b64decode(value).decode() for entry, value in data.items()}

    @contextmanager
    def forwarded(self, namespace: str, service: str, port: int) -> Iterator[str]:
        """Forward a local port to a Service, or to ``pod/NAME``; yields its ``http://`` address.

        Raises:
            RuntimeError: kubectl could not forward; the message holds what it printed.
        """
        words = [
            str(self.bin / "kubectl"), "port-forward", f"--namespace={namespace}",
            service if "/" in service else f"service/{service}", f":{port}",
        ]  # fmt: skip
        with subprocess.Popen(
            words,
            env={**os.environ, **self.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as forwarding:
            try:
                yield _address(forwarding)
            finally:
                forwarding.terminate()


def _address(forwarding: "subprocess.Popen[str]") -> str:
    """What kubectl's first line says: ``Forwarding from 127.0.0.1:PORT -> 8080``."""
    line = forwarding.stdout.readline() if forwarding.stdout else ""
    found = re.search(r"(127\.0\.0\.1:\d+)", line)
    if found is None:
        raise RuntimeError(f"kubectl port-forward: {line.strip() or 'it ended'}")
    return f"http://{found[1]}"


def _missing(obj: dict[str, Any]) -> str:
    """The conditions that are not true yet, with their messages."""
    conditions = obj.get("status", {}).get("conditions") or []
    lacking = [
        f"{c['type']} ({c['message'] or c['reason']})"
        for c in conditions
        if c["type"] not in ("Ready", "Stalled") and c["status"] != "True"
    ]
    stalled = [f"Stalled: {c['message']}" for c in conditions if c["type"] == "Stalled"]
    return "; ".join([*stalled, *lacking]) or ("" if conditions else "not seen by the operator yet")
