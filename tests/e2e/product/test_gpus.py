"""GPUs are asked for as the spec says: on a node whose GPUs are an extended resource."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.demo.kube import Tools
from tests.e2e.product.team import until

_NAMESPACE = "rag-gpus"
_GPU = "nvidia.com/gpu"
_TAINT = f"{_GPU}=present:NoSchedule"
_RUNTIME = "gpu-test"
_SECONDS = 60


def _patch_gpus(tools: Tools, node: str, count: int | None) -> None:
    """Give the node so many GPUs, as a device plugin would (docs: extended resources)."""
    pointer = _GPU.replace("/", "~1")
    operation = (
        {"op": "remove", "path": f"/status/capacity/{pointer}"}
        if count is None
        else {"op": "add", "path": f"/status/capacity/{pointer}", "value": str(count)}
    )
    tools.kubectl(
        "patch", f"node/{node}", "--subresource=status", "--type=json",
        f"--patch={json.dumps([operation])}",
    )  # fmt: skip


@pytest.fixture(scope="module")
def node(tools: Tools) -> Iterator[str]:
    """A node with two GPUs and a taint that keeps others off, and a RuntimeClass."""
    name = tools.kubectl("get", "nodes", "--output=jsonpath={.items[0].metadata.name}")
    runtime = {
        "apiVersion": "node.k8s.io/v1",
        "kind": "RuntimeClass",
        "metadata": {"name": _RUNTIME},
        "handler": "runc",
    }
    _patch_gpus(tools, name, 2)
    tools.kubectl("apply", "--filename=-", stdin=json.dumps(runtime))
    tools.kubectl("create", "namespace", _NAMESPACE)
    tools.kubectl("label", "namespace", _NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")
    tools.kubectl("taint", "node", name, _TAINT)
    yield name
    tools.kubectl("taint", "node", name, f"{_TAINT}-")
    tools.kubectl("delete", "ragdeployment", "--all", f"--namespace={_NAMESPACE}", "--timeout=120s")
    tools.kubectl("delete", "namespace", _NAMESPACE, "--wait=false")
    tools.kubectl("delete", "runtimeclass", _RUNTIME)
    _patch_gpus(tools, name, None)


def _vllm(main: dict[str, Any], component: str, **more: Any) -> dict[str, Any]:
    """A model as the quickstart has it, on GPUs."""
    model = dict(main["spec"][component])
    return {**model, "vllm": {**model["vllm"], "runtimeClassName": _RUNTIME, **more}}


def _deployment(tools: Tools, embedding: dict[str, Any], generation: dict[str, Any]) -> None:
    main = tools.get("ragdeployment", "rag", "main")
    spec = {
        # nothing else of this RAGDeployment needs to run
        "vectorStore": {"weaviate": {"external": {
            "httpUrl": "http://main-weaviate.rag.svc:8080",
            "grpcUrl": "grpc://main-weaviate.rag.svc:50051",
        }}},
        "state": {"redis": {"managed": {}}},
        "cache": {"redis": {"managed": {}}},
        "embedding": _vllm(main, "embedding", **embedding),
        "generation": _vllm(main, "generation", **generation),
        "api": {"replicas": 0},
    }  # fmt: skip
    manifest = {
        "apiVersion": "ragtenancy.io/v1alpha1",
        "kind": "RAGDeployment",
        "metadata": {"name": "gpus", "namespace": _NAMESPACE},
        "spec": spec,
    }
    tools.kubectl("apply", "--filename=-", stdin=json.dumps(manifest))


def _condition(tools: Tools, kind: str) -> tuple[str, str, str]:
    status = tools.get("ragdeployment", _NAMESPACE, "gpus").get("status", {})
    held = {c["type"]: c for c in status.get("conditions", [])}.get(kind, {})
    return held.get("status", ""), held.get("reason", ""), held.get("message", "")


def _pod(tools: Tools, component: str) -> dict[str, Any]:
    words = (
        "get", "pods", f"--namespace={_NAMESPACE}", "--output=json",
        f"--selector=app.kubernetes.io/component={component},ragtenancy.io/deployment=gpus",
    )  # fmt: skip
    pods = [
        pod
        for pod in json.loads(tools.kubectl(*words))["items"]
        if "deletionTimestamp" not in pod["metadata"]
        and pod["metadata"]["labels"].get("pod-template-hash")
    ]
    return pods[-1] if pods else {}


TOLERATED = {"tolerations": [{"key": _GPU, "operator": "Exists", "effect": "NoSchedule"}]}


@pytest.mark.usefixtures("node")
def test_a_model_waits_for_a_node_whose_taint_it_tolerates(tools: Tools) -> None:
    _deployment(tools, {"gpus": 1, **TOLERATED}, {"gpus": 1})

    def tainted() -> bool:
        _, reason, message = _condition(tools, "GenerationReady")
        return reason == "Unschedulable" and "taint" in message

    until(tainted, _SECONDS, "GenerationReady speaks of the taint")


@pytest.mark.usefixtures("node")
def test_two_models_share_a_node_a_gpu_each(tools: Tools) -> None:
    _deployment(tools, {"gpus": 1, **TOLERATED}, {"gpus": 1, **TOLERATED})
    for component in ("embedding", "generation"):

        def placed(component: str = component) -> dict[str, Any]:
            pod = _pod(tools, component)
            return pod if pod.get("spec", {}).get("nodeName") else {}

        spec = until(placed, _SECONDS, f"{component} has a node")["spec"]
        assert spec["runtimeClassName"] == _RUNTIME
        assert spec["containers"][0]["resources"]["limits"][_GPU] == "1"


@pytest.mark.usefixtures("node")
def test_more_gpus_than_are_free_is_said_so(tools: Tools) -> None:
    _deployment(
        tools,
        {"gpus": 1, **TOLERATED},
        {"gpus": 2, "tensorParallelSize": 1, **TOLERATED},
    )
    until(
        lambda: _condition(tools, "GenerationReady")[1] == "InsufficientGPU",
        _SECONDS,
        "InsufficientGPU",
    )
    assert _GPU in _condition(tools, "GenerationReady")[2]
    args = _pod(tools, "generation")["spec"]["containers"][0]["args"]
    assert args[args.index("--pipeline-parallel-size") + 1] == "2"


@pytest.mark.usefixtures("node")
def test_a_tensor_parallel_size_that_does_not_divide_the_gpus_is_refused(tools: Tools) -> None:
    with pytest.raises(Exception, match="gpus must be a multiple of tensorParallelSize"):
        _deployment(tools, {"gpus": 1}, {"gpus": 4, "tensorParallelSize": 3})
