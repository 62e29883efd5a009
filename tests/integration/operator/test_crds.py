"""What the API server takes and refuses of our kinds."""

import json
import subprocess
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import yaml

from tests.integration.operator.world import ROOT, deployment, tenant
from tests.unit.builders import deployment_spec

Kubectl = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def apply(kubectl: Kubectl, crds: None) -> Callable[[dict[str, Any]], str]:
    """Applies a manifest as a person would; the answer is what kubectl printed on stderr."""

    def run(manifest: dict[str, Any]) -> str:
        return kubectl("apply", "-f", "-", stdin=json.dumps(manifest)).stderr

    return run


def changed(path: str, value: Any) -> dict[str, Any]:
    """The smallest deployment with one field set; None takes the field away."""
    spec = deepcopy(deployment_spec())
    *parents, last = path.split(".")
    node = spec
    for parent in parents:
        node = node.setdefault(parent, {})
    if value is None:
        del node[last]
    else:
        node[last] = value
    return deployment("default", spec, "crd-test")


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("surprise", 1, 'unknown field "spec.surprise"'),
        ("vectorStore.weaviate", {}, "set exactly one of managed and external"),
        (
            "vectorStore.weaviate.external",
            {"httpUrl": "http://w", "grpcUrl": "grpc://w:1"},
            "set exactly one of managed and external",
        ),
        ("generation.vllm", None, "set exactly one of vllm and external"),
        ("embedding.dimensions", 0, "greater than or equal to 1"),
        ("generation.maxModelLen", 1, "greater than or equal to 256"),
        ("vectorStore.collection.index", "Tree", 'supported values: "Dynamic", "Flat", "HNSW"'),
        ("api.replicas", -1, "greater than or equal to 0"),
        ("api.publicURL", "ftp://x", "should match"),
        ("api.ingress", {"host": "*.example.com"}, "required with a wildcard host"),
        ("api.httpRoute", {"parentRefs": [{"name": "g"}]}, "required with httpRoute"),
        ("api.tls", {"secretName": "x"}, "tls is the Ingress's"),
        ("api.autoscaling", {"maxReplicas": 4}, "autoscaling needs resources.requests.cpu"),
        ("generation.vllm", {"gpus": 3, "tensorParallelSize": 2}, "must be a multiple of"),
        ("ingestion.chunking", {"tokens": 100, "overlap": 100}, "overlap must be smaller"),
        ("ingestion.chunking", {"tokens": 600}, "must not pass embedding.maxInputTokens"),
        ("cache.exact.ttl", "1 hour", "should match"),
        ("cache.redis.managed.maxMemory", "256m", "write 256Mi, not 256m"),
        ("tenants.allowedNamespaces", {"from": "Selector"}, "selector is required"),
    ],
)
def test_a_bad_deployment_is_refused_with_the_field(
    apply: Callable[[dict[str, Any]], str], path: str, value: Any, words: str
) -> None:
    error = apply(changed(path, value))
    assert words.lower() in error.lower()


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("embedding.dimensions", 768, "vectors of two models cannot be compared"),
        ("embedding.model", "other", "vectors of two models cannot be compared"),
        ("vectorStore.collection.index", "Flat", "Weaviate builds them into the collection"),
        ("vectorStore.weaviate.managed.storage.size", "1Mi", "size can only grow"),
        ("embedding.vllm.modelCache.persistentVolumeClaim.size", "1Mi", "size can only grow"),
    ],
)
def test_what_would_lose_data_is_immutable_and_says_why(
    apply: Callable[[dict[str, Any]], str], path: str, value: Any, words: str
) -> None:
    assert apply(deployment("default", deployment_spec(), "crd-test")) == ""
    assert words in apply(changed(path, value))


def test_managed_cannot_become_external(apply: Callable[[dict[str, Any]], str]) -> None:
    assert apply(deployment("default", deployment_spec(), "crd-test")) == ""
    external = {"external": {"httpUrl": "http://w", "grpcUrl": "grpc://w:1"}}
    error = apply(
        deployment("default", deployment_spec(vectorStore={"weaviate": external}), "crd-test")
    )
    assert "cannot change between managed and external" in error


def test_a_deployments_name_is_bounded(apply: Callable[[dict[str, Any]], str]) -> None:
    assert "at most 40 characters" in apply(deployment("default", deployment_spec(), "x" * 41))


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"surprise": 1}, 'unknown field "spec.surprise"'),
        ({"quotas": {"requestsPerMinute": 0}}, "greater than or equal to 1"),
        ({"quotas": {"requestsPerMinute": -5}}, "greater than or equal to 1"),
        ({"retrieval": {"mode": "Magic"}}, "supported values"),
        ({"generation": {"temperature": 3}}, "less than or equal to 2"),
        ({"apiKeys": []}, "at least 1 items"),
        ({"apiKeys": [{"name": "a"}, {"name": "a"}]}, "duplicate"),
    ],
)
def test_a_bad_tenant_is_refused_with_the_field(
    apply: Callable[[dict[str, Any]], str], spec: dict[str, Any], words: str
) -> None:
    assert words.lower() in apply(tenant("default", "crd-test", "default", **spec)).lower()


def test_a_tenant_cannot_move_to_another_deployment(
    apply: Callable[[dict[str, Any]], str], kubectl: Kubectl
) -> None:
    assert apply(tenant("default", "moving", "default")) == ""
    assert "deploymentRef is immutable" in apply(tenant("default", "moving", "elsewhere"))
    kubectl("delete", "ragtenant", "moving", "--wait=false")


def examples() -> list[Any]:
    """Our kinds in every example, a file at a time."""
    found = []
    for path in sorted((ROOT / "examples").rglob("*.yaml")):
        documents = [each for each in yaml.safe_load_all(path.read_text()) if each]
        ours = [d for d in documents if d.get("apiVersion", "").startswith("ragtenancy.io/")]
        if ours:
            found.append(pytest.param(ours, id=str(path.relative_to(ROOT))))
    return found


@pytest.mark.parametrize("manifests", examples())
def test_every_example_is_taken_as_it_is(
    kubectl: Kubectl, crds: None, manifests: list[dict[str, Any]]
) -> None:
    for manifest in manifests:
        manifest["metadata"]["namespace"] = "default"
        words = ("create", "--dry-run=server", "--validate=strict", "--filename=-")
        assert kubectl(*words, stdin=json.dumps(manifest)).stderr == ""


def test_the_gpu_examples_scaler_scales_what_the_operator_makes() -> None:
    folder = ROOT / "examples/gpu"
    scaled = yaml.safe_load((folder / "keda.yaml").read_text())
    made = yaml.safe_load((folder / "ragdeployment.yaml").read_text())
    name = made["metadata"]["name"]
    assert scaled["metadata"]["namespace"] == made["metadata"]["namespace"]
    assert scaled["spec"]["scaleTargetRef"] == {"name": f"{name}-generation"}
    (trigger,) = scaled["spec"]["triggers"]
    assert f'service="{name}-generation-metrics"' in trigger["metadata"]["query"]
