"""The quickstart on a running cluster, as benchmarks find it, and tenants to measure with."""

import json
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from secrets import token_hex

from tests.e2e.cluster import choose
from tests.e2e.demo.kube import Tools
from tests.e2e.product.team import Team

_MODELS_SECONDS = 1800.0
_ROLL_SECONDS = 180.0


def say(text: str) -> None:
    """Progress, beside the result."""
    print(text, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Quickstart:
    """The quickstart, Ready."""

    tools: Tools

    @classmethod
    def ready(cls) -> "Quickstart":
        """Bring the cluster up, install the chart, apply the quickstart and wait for it."""
        cluster = choose()
        cluster.up()
        cluster.images()
        tools = Tools.of(cluster)
        tools.install()
        tools.apply_quickstart()
        tools.wait_ready("ragdeployment", "rag", "main", _MODELS_SECONDS, say)
        tools.wait_current(_ROLL_SECONDS)
        return cls(tools)

    @contextmanager
    def team(self, address: str) -> Iterator[Team]:
        """A namespace for tenants, removed with them afterwards."""
        name = f"bench-{token_hex(3)}"
        labels = {"rag.example.com/tenants": "allowed"}
        metadata = {"name": name, "labels": labels}
        manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
        self.tools.kubectl("create", "--filename=-", stdin=json.dumps(manifest))
        try:
            yield Team(self.tools, name, address)
        finally:
            self.tools.kubectl("delete", "namespace", name)

    def api_pods(self) -> list[str]:
        """Names of the ready API pods."""
        found = self.tools.kubectl(
            "get", "pods", "--namespace=rag", "--selector=app.kubernetes.io/component=api",
            "--output=json",
        )  # fmt: skip
        return [
            pod["metadata"]["name"]
            for pod in json.loads(found)["items"]
            if any(
                c["type"] == "Ready" and c["status"] == "True" for c in pod["status"]["conditions"]
            )
        ]

    def resident_mb(self, namespace: str, pod: str) -> float:
        """Resident memory of a pod's process, by its own metrics, in MB."""
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}:9090/proxy/metrics"
        for line in self.tools.kubectl("get", "--raw", path).splitlines():
            if line.startswith("process_resident_memory_bytes "):
                return float(line.split()[1]) / 1e6
        raise RuntimeError(f"{pod} does not report its memory")


def percentile(values: Sequence[float], rank: int) -> float:
    """The value that ``rank`` of a hundred do not pass."""
    return statistics.quantiles(values, n=100, method="inclusive")[rank - 1]


def report(measure: Callable[[], dict[str, float]]) -> int:
    """Measure, and print the result as the last line; the exit status."""
    result = measure()
    print(json.dumps(result), flush=True)
    return 0
