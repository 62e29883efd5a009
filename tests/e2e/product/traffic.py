"""Traffic of a tenant's application from inside the cluster, while something else changes."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from typing import Any

from tests.e2e.product.team import App, Team, until

_SCRIPT = Path(__file__).with_name("traffic_client.py")
_IMAGE = "{.spec.template.spec.containers[0].image}"
_MORE_SECONDS = 300
_END_SECONDS = 150


@dataclass
class Traffic:
    """Traffic that flows.

    Attributes:
        logs: What the client has said so far.
        counts: What the requests met, by kind (plain, streamed, search), once all has ended.
    """

    logs: Callable[[], str]
    counts: dict[str, dict[str, Any]] = field(default_factory=dict)

    def goes_on(self, requests: int = 5) -> None:
        """Wait until each kind of request was made so many times more."""
        goal = {kind: number + requests for kind, number in self._made().items()}
        until(
            lambda: all(number >= goal[kind] for kind, number in self._made().items()),
            _MORE_SECONDS,
            "the traffic goes on",
        )

    def _made(self) -> dict[str, int]:
        said = re.findall(r"^(plain|streamed|search) ([0-9]+)$", self.logs(), re.M)
        return {"plain": 0, "streamed": 0, "search": 0, **{kind: int(n) for kind, n in said}}

    def outcomes(self) -> set[str]:
        """What requests met, of any kind."""
        return {outcome for counts in self.counts.values() for outcome in counts["answers"]}

    def outage_s(self) -> float:
        """Longest time that requests of one kind failed, in seconds."""
        return float(max(counts["outage_s"] for counts in self.counts.values()))

    def failed(self) -> dict[str, list[str]]:
        """The kinds of request that met a failure, with the first failures."""
        return {
            kind: counts["failures"]
            for kind, counts in self.counts.items()
            if set(counts["answers"]) != {"ok"}
        }


def _pod(name: str, image: str, secret: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "traffic",
                    "image": image,
                    "command": ["python", "/script/traffic_client.py"],
                    "envFrom": [{"secretRef": {"name": secret}}],
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                        "readOnlyRootFilesystem": True,
                    },
                    "volumeMounts": [
                        {"name": "script", "mountPath": "/script"},
                        {"name": "tmp", "mountPath": "/tmp"},
                    ],
                }
            ],
            "volumes": [
                {"name": "script", "configMap": {"name": name}},
                {"name": "tmp", "emptyDir": {}},
            ],
        },
    }


@contextmanager
def flowing(team: Team, app: App, deployment: str = "main") -> Iterator[Traffic]:
    """Traffic with a tenant's Secret as long as the block runs; counted when it ends."""
    tools, name = team.tools, f"traffic-{token_hex(3)}"
    where = f"--namespace={team.namespace}"
    image = tools.kubectl(
        "get", f"deployment/{deployment}-api", "--namespace=rag", f"--output=jsonpath={_IMAGE}"
    )
    secret = tools.get("ragtenant", team.namespace, app.tenant)["status"]["apiKeys"][0]
    tools.kubectl("create", "configmap", name, where, f"--from-file={_SCRIPT}")
    pod = json.dumps(_pod(name, image, secret["secretName"]))
    tools.kubectl("create", where, "--filename=-", stdin=pod)

    def logs() -> str:
        phase = "--output=jsonpath={.status.phase}"
        if tools.kubectl("get", f"pod/{name}", where, phase) == "Pending":
            return ""
        return tools.kubectl("logs", f"pod/{name}", where)

    traffic = Traffic(logs)
    try:
        traffic.goes_on()
        yield traffic
        traffic.goes_on()
        stop = "import pathlib; pathlib.Path('/tmp/stop').touch()"
        tools.kubectl("exec", f"pod/{name}", where, "--", "python", "-c", stop)
        phase = "--output=jsonpath={.status.phase}"
        ended = until(
            lambda: {"Succeeded", "Failed"} & {tools.kubectl("get", f"pod/{name}", where, phase)},
            _END_SECONDS,
            "the traffic has ended",
        )
        assert ended == {"Succeeded"}, logs()
        traffic.counts = json.loads(logs().splitlines()[-1])
    finally:
        tools.kubectl("delete", f"pod/{name}", f"configmap/{name}", where, "--wait=false")
