"""The test cluster does what a Kubernetes must: DNS, volumes, exec, logs, port-forward, metrics."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.e2e.conftest import Kubectl
from tests.e2e.localnode import layout, versions
from tests.e2e.localnode.addons import kubectl_path
from tests.e2e.localnode.shell import wait_until

_POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "redis", "labels": {"app": "redis"}},
    "spec": {
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 1000,
            "fsGroup": 1000,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationGracePeriodSeconds": 0,
        "containers": [
            {
                "name": "redis",
                "image": f"redis:{versions.REDIS}",
                "args": ["--appendonly", "yes"],
                "readinessProbe": {
                    "exec": {"command": ["redis-cli", "ping"]},
                    "periodSeconds": 1,
                },
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                },
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            }
        ],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
    },
}
_SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "redis"},
    "spec": {"selector": {"app": "redis"}, "ports": [{"port": 6379}]},
}


def _claim(name: str, storage_class: str | None = None) -> dict[str, object]:
    spec: dict[str, object] = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
    }
    if storage_class:
        spec["storageClassName"] = storage_class
    metadata = {"name": name}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": metadata,
        "spec": spec,
    }


@pytest.fixture(scope="module")
def redis_pod(kubectl: Kubectl, restricted_namespace: str) -> str:
    """A non-root Redis on a volume of the default class, behind a Service; its namespace."""
    for manifest in (_claim("data"), _SERVICE):
        kubectl("apply", "-n", restricted_namespace, "-f", "-", stdin=json.dumps(manifest))
    # The namespace's ServiceAccount comes a moment after the namespace.
    wait_until(
        "the default ServiceAccount",
        lambda: kubectl("get", "sa", "-n", restricted_namespace, "-o", "name"),
        10,
    )
    kubectl("apply", "-n", restricted_namespace, "-f", "-", stdin=json.dumps(_POD))
    kubectl(
        "wait", "-n", restricted_namespace, "--for=condition=Ready", "pod/redis", "--timeout=60s"
    )
    return restricted_namespace


def test_node_is_ready_in_the_pinned_version(kubectl: Kubectl) -> None:
    nodes = json.loads(kubectl("get", "nodes", "-o", "json"))["items"]
    [conditions] = [
        {each["type"]: each["status"] for each in node["status"]["conditions"]} for node in nodes
    ]
    assert conditions["Ready"] == "True"


def test_a_pod_resolves_and_reaches_a_service_by_name(kubectl: Kubectl, redis_pod: str) -> None:
    host = f"redis.{redis_pod}.svc.cluster.local"
    command = f"redis-cli -h {host} ping || true"

    def answers() -> bool:
        return "PONG" in kubectl("exec", "-n", redis_pod, "redis", "--", "sh", "-c", command)

    # The Service learns of the pod a moment after the pod is ready.
    wait_until("an answer through the Service", answers, 5)


def test_a_non_root_pod_writes_its_volume(kubectl: Kubectl, redis_pod: str) -> None:
    script = "id -u && echo kept > /data/written && cat /data/written"
    answer = kubectl("exec", "-n", redis_pod, "redis", "--", "sh", "-c", script)
    assert answer.split() == ["1000", "kept"]


def test_logs_are_read(kubectl: Kubectl, redis_pod: str) -> None:
    assert "Ready to accept connections" in kubectl("logs", "-n", redis_pod, "redis")


def test_port_forward_reaches_the_pod(redis_pod: str, kubeconfig: Path) -> None:
    forward = subprocess.Popen(
        [
            str(kubectl_path()), f"--kubeconfig={kubeconfig}", "port-forward",
            "-n", redis_pod, "pod/redis", ":6379",
        ],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert forward.stdout
        found = re.search(r"127\.0\.0\.1:(\d+)", forward.stdout.readline())
        assert found
        import redis

        assert redis.Redis(port=int(found[1])).ping()
    finally:
        forward.terminate()
        forward.communicate()


def test_node_metrics_are_there(kubectl: Kubectl) -> None:
    def measured() -> bool:
        answer = kubectl("get", "--raw", "/apis/metrics.k8s.io/v1beta1/nodes")
        return bool(json.loads(answer)["items"])

    # Usage is the difference of two readings, ten seconds apart.
    wait_until("the first metrics", measured, 40)
    assert re.search(r"\d+m\s", kubectl("top", "node", "--no-headers"))


def test_a_model_cache_claim_is_bound_again_after_its_deletion(
    kubectl: Kubectl, restricted_namespace: str
) -> None:
    if "model-cache" not in kubectl("get", "storageclass", "-o", "name"):
        pytest.skip("the cluster has no model cache")
    for _ in range(2):
        claim = json.dumps(_claim("models", "model-cache"))
        kubectl("apply", "-n", restricted_namespace, "-f", "-", stdin=claim)
        kubectl(
            "wait", "-n", restricted_namespace, "pvc/models", "--timeout=30s",
            "--for=jsonpath={.status.phase}=Bound",
        )  # fmt: skip
        kubectl("delete", "-n", restricted_namespace, "pvc/models")
    if layout.MODEL_CACHE.exists():
        assert (layout.MODEL_CACHE / "hub").is_dir()
